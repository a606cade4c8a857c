import { describe, expect, it } from 'vitest'
import { Api, type PeriodStatistics } from '../src/client'
import { readDays } from '../src/ui/insight/days'

const NOW = new Date(2030, 2, 31, 15, 0)

function figures(total: number, waiting = 0): PeriodStatistics {
  const turns = { total, queued: 0, running: 0, waiting_approval: waiting }
  return { messages: { total: 2 * total }, turns, approvals: { total: 0, pending: 0 } } as unknown as PeriodStatistics
}

/** An API that has these many turns on the days before (0: today), and keeps what it is asked. */
function service(turns: Record<number, PeriodStatistics>): { api: Api; asked: number[] } {
  const asked: number[] = []
  const api = new Api({
    baseUrl: 'http://service',
    fetch: async (input) => {
      const from = new Date(new URL(String(input)).searchParams.get('from') ?? '')
      const back = Math.round((new Date(2030, 2, 31).getTime() - from.getTime()) / 86_400_000)
      asked.push(back)
      return new Response(JSON.stringify(turns[back] ?? figures(0)))
    },
  })
  return { api, asked }
}

describe('days', () => {
  it('are asked for backwards, and no further than something happened', async () => {
    const { api, asked } = service({ 0: figures(1), 1: figures(4) })
    const days = await readDays(api, figures(5), 10, NOW)
    expect(asked).toEqual([0, 1, 2])
    expect(days.map((day) => day.figures?.turns.total ?? null)).toEqual([null, null, null, null, null, null, null, 0, 4, 1])
    expect(days.at(-1)?.start).toEqual(new Date(2030, 2, 31))
  })

  it('are not asked for at all where nothing ever happened', async () => {
    const { api, asked } = service({})
    expect(await readDays(api, figures(0), 10, NOW)).toHaveLength(10)
    expect(asked).toEqual([])
  })

  it('that are over are asked for once; today, and those in which something waits, again', async () => {
    const { api, asked } = service({ 1: figures(2, 1), 9: figures(7) })
    await readDays(api, figures(9), 10, NOW)
    expect(asked).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    asked.length = 0
    await readDays(api, figures(9), 10, NOW)
    expect(asked).toEqual([0, 1])
  })
})
