// Statistics day by day, with few questions: from today backwards until nothing is left of the sum, and a past day in
// which nothing is open any more only once per page, since it does not change.

import type { Api, PeriodStatistics } from '../../client'

export interface Day {
  start: Date
  /** null: nothing happened, so nobody was asked. */
  figures: PeriodStatistics | null
}

const AT_ONCE = 3
const settled = new WeakMap<Api, Map<string, PeriodStatistics>>()

/** The last days, oldest first. all: the figures of all time, as they are now. */
export async function readDays(api: Api, all: PeriodStatistics, count: number, now = new Date()): Promise<Day[]> {
  const kept = settled.get(api) ?? new Map<string, PeriodStatistics>()
  settled.set(api, kept)
  const starts = Array.from({ length: count }, (_, back) => new Date(now.getFullYear(), now.getMonth(), now.getDate() - back))
  const days: Day[] = []
  let left = happened(all)
  for (let from = 0; from < starts.length; from += AT_ONCE) {
    const part = starts.slice(from, from + AT_ONCE)
    const read = await Promise.all(
      part.map(async (start) => ({ start, figures: left > 0 ? (kept.get(start.toISOString()) ?? (await readDay(api, start))) : null })),
    )
    for (const { start, figures } of read) {
      if (figures === null) continue
      left -= happened(figures)
      if (start < (starts[0] ?? now) && !isOpen(figures)) kept.set(start.toISOString(), figures)
    }
    days.push(...read)
  }
  return days.reverse()
}

function readDay(api: Api, start: Date): Promise<PeriodStatistics> {
  // Not 24 hours later: there are days of 23 and 25.
  const end = new Date(start.getFullYear(), start.getMonth(), start.getDate() + 1)
  return api.get('/statistics', { from: start.toISOString(), to: end.toISOString() })
}

/** What adds up over days to what is counted of all time. */
function happened({ messages, turns, approvals }: PeriodStatistics): number {
  return messages.total + turns.total + approvals.total
}

function isOpen({ turns, approvals }: PeriodStatistics): boolean {
  return turns.queued + turns.running + turns.waiting_approval + approvals.pending > 0
}
