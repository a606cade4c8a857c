// Daily statistics with few requests: reads from today backwards until the total is accounted for, and reads a past day
// without open turns only once per page, since it no longer changes.

import type { Api, PeriodStatistics } from '../../client'

export interface Day {
  start: Date
  /** null: nothing happened, so the service was not asked. */
  figures: PeriodStatistics | null
}

const AT_ONCE = 3
const settled = new WeakMap<Api, Map<string, PeriodStatistics>>()

/** The last days, oldest first. all: the current figures of all time. */
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
  // Not 24 hours later, since days can have 23 or 25 hours.
  const end = new Date(start.getFullYear(), start.getMonth(), start.getDate() + 1)
  return api.get('/statistics', { from: start.toISOString(), to: end.toISOString() })
}

/** A count that adds up over the days to the count of all time. */
function happened({ messages, turns, approvals }: PeriodStatistics): number {
  return messages.total + turns.total + approvals.total
}

function isOpen({ turns, approvals }: PeriodStatistics): boolean {
  return turns.queued + turns.running + turns.waiting_approval + approvals.pending > 0
}
