import { describe, expect, it } from 'vitest'
import { diffLines } from '../src/ui/approvals/diff'
import { approvalsSoFar } from '../src/ui/approvals/votes'
import { samples, total } from '../src/ui/insight/metrics'
import { scaleOf, timelineOf } from '../src/ui/insight/timeline'
import type { Approval, Envelope, Turn } from '../src/client'

describe('a diff', () => {
  it('shows what was taken out and what was put in, and keeps the rest', () => {
    expect(diffLines('a\nb\nc', 'a\nx\nc')).toEqual([
      { kind: 'same', text: 'a' },
      { kind: 'removed', text: 'b' },
      { kind: 'added', text: 'x' },
      { kind: 'same', text: 'c' },
    ])
  })

  it('of equal texts shows no change', () => {
    expect(diffLines('a\nb', 'a\nb').every(({ kind }) => kind === 'same')).toBe(true)
  })
})

it('of approvals only those of the same arguments add up', () => {
  const vote = (by: string, decision: string, values: object | null) => ({ by, decision, arguments: values })
  const votes = [vote('ana', 'approve', { b: 1, a: 2 }), vote('ben', 'approve', null), vote('cleo', 'reject', null), vote('dora', 'approve', { a: 2, b: 1 })]
  expect(approvalsSoFar({ arguments: { a: 1 }, votes } as unknown as Approval)).toBe(2)
  expect(approvalsSoFar({ arguments: {}, votes: [] } as unknown as Approval)).toBe(0)
})

it('metrics are summed over their labels', () => {
  const all = samples('# HELP x y\nmessages_total{role="user"} 3\nmessages_total{role="a\\"b"} 4\nother 1e3\n')
  expect(total(all, 'messages_total')).toBe(7)
  expect(total(all, 'other')).toBe(1000)
  expect(total(all, 'absent')).toBe(null)
  expect(all[1]?.labels).toEqual({ role: 'a"b' })
})

describe('a timeline', () => {
  const at = (seconds: number): string => new Date(Date.UTC(2030, 0, 1) + seconds * 1000).toISOString()
  const event = (seq: number, seconds: number, type: Envelope['type'], data: Record<string, unknown>, message_id?: string): Envelope => ({
    seq, type, session_id: 's', turn_id: 't', at: at(seconds), data, ...(message_id === undefined ? {} : { message_id }),
  })
  const turn = { id: 't', status: 'completed', started_at: at(0), created_at: at(0), ended_at: at(7202) } as unknown as Turn
  const approval = { turn_id: 't', tool: 'http_request', requested_at: at(1), decided_at: at(7200), status: 'approved', decided_by: 'ana', expires_at: at(9999) } as Approval
  const events = [
    event(1, 0, 'stream.started', {}),
    event(2, 0, 'stream.chunk', { frame: { type: 'message_start', attempt: 1 } }, 'm1'),
    event(3, 1, 'stream.chunk', { frame: { type: 'tool_call', id: 'c', name: 'http_request' } }, 'm1'),
    event(4, 1, 'stream.chunk', { frame: { type: 'message_end' } }, 'm1'),
    event(5, 7200, 'tool_call.approved', { tool_call_id: 'c' }),
    event(6, 7201, 'tool_call.completed', { tool_call: { id: 'c', status: 'completed' } }),
    event(7, 7201, 'stream.chunk', { frame: { type: 'message_start', attempt: 1 } }, 'm2'),
    event(8, 7202, 'stream.chunk', { frame: { type: 'message_end' } }, 'm2'),
    event(9, 7202, 'stream.ended', { status: 'completed' }),
  ]

  it('has the model, the wait and the tool, each with its own time', () => {
    const { segments, isCoarse } = timelineOf(turn, [], [approval], events, 0)
    expect(isCoarse).toBe(false)
    expect(segments.map(({ kind, from, to }) => [kind, (to - from) / 1000])).toEqual([
      ['model', 1], ['wait', 7199], ['tool', 1], ['model', 1],
    ])
  })

  it('draws a wait of hours so that the seconds beside it can be seen', () => {
    const timeline = timelineOf(turn, [], [approval], events, 0)
    const { place, isShortened } = scaleOf(timeline)
    expect(isShortened).toBe(true)
    expect(place(timeline.from)).toBe(0)
    expect(place(timeline.to)).toBe(1)
    expect(place(Date.parse(at(1)))).toBeGreaterThan(0.15)
  })

  it('falls back to the stored messages when the events are gone, and says so', () => {
    const message = { turn_id: 't', role: 'assistant', created_at: at(0), status: 'completed' } as never
    expect(timelineOf(turn, [message], [], [], 0)).toMatchObject({ isCoarse: true, segments: [{ kind: 'model' }] })
  })
})
