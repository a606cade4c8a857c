import { describe, expect, it } from 'vitest'
import type { Approval, Envelope, Message, Session, ToolCall, ToolWait, Turn } from '../src/client'
import { traceOf, type Facts, type Row } from '../src/ui/insight/trace/rows'
import { scaleOf } from '../src/ui/insight/trace/scale'
import { above, allOf, keyed, shownOf } from '../src/ui/insight/trace/tree'
import { noteOf, toneOf } from '../src/ui/insight/trace/words'

const start = Date.UTC(2030, 0, 1)
const at = (seconds: number): string => new Date(start + seconds * 1000).toISOString()
const event = (seconds: number, type: Envelope['type'], data: Record<string, unknown>, message_id?: string, turn_id = 't'): Envelope => ({
  seq: 1, type, session_id: 's', turn_id, at: at(seconds), data, ...(message_id === undefined ? {} : { message_id }),
})
const frame = (seconds: number, data: Record<string, unknown>, message = 'm1', turn = 't'): Envelope => event(seconds, 'stream.chunk', { frame: data }, message, turn)
const call = (id: string, more: Partial<ToolCall> = {}): ToolCall => ({ id, message_id: 'm1', name: 'http_request', arguments: { n: 1 }, decided_arguments: null, status: 'completed', result: null, is_client: false, ...more })
const turn = { id: 't', session_id: 's', status: 'completed', started_at: at(0), created_at: at(0), ended_at: at(7202), tool_calls: [call('c')], waits: [], subagents: [], usage: null, finish_reason: 'stop' } as unknown as Turn
const answer = (id: string, seconds: number, calls: ToolCall[] = []): Message => ({ id, turn_id: 't', role: 'assistant', content: id, status: 'completed', tool_calls: calls, created_at: at(seconds), finish_reason: null, attachments: [] }) as unknown as Message
const approval = { id: 'a', tool_call_id: 'c', turn_id: 't', tool: 'http_request', requested_at: at(1), decided_at: at(7200), status: 'approved', decided_by: 'ana', expires_at: at(9999) } as Approval
const usage = { input_tokens: 1200, output_tokens: 30, cached_input_tokens: 800, reasoning_tokens: 20, cost_usd: 0.0042 }
const events = [
  event(0, 'stream.started', {}),
  frame(0, { type: 'message_start', attempt: 1 }),
  frame(0.5, { type: 'content_delta', index: 0, text: 'I ' }),
  frame(1, { type: 'tool_call', id: 'c', name: 'http_request', arguments: { n: 1 } }),
  frame(1, { type: 'message_end', finish_reason: 'length', usage }),
  event(7200, 'tool_call.approved', { tool_call_id: 'c' }),
  event(7201, 'tool_call.completed', { tool_call: { id: 'c', status: 'completed', result: 1 } }),
  frame(7201, { type: 'message_start', attempt: 1 }, 'm2'),
  frame(7202, { type: 'message_end' }, 'm2'),
  event(7202, 'stream.ended', { status: 'completed' }),
]
const facts = (more: Partial<Facts> = {}): Facts => ({ turn, session: { id: 's', agent_id: null } as Session, question: null, messages: [answer('m1', 0, [call('c')]), answer('m2', 7201)], approvals: [approval], events, below: new Map(), ...more })
const outline = (row: Row): unknown => (row.children.length === 0 ? row.name : { [row.name]: row.children.map(outline) })
const find = (row: Row, id: string): Row => allOf(row).find((other) => other.id === id)!

describe('the trace of a turn', () => {
  it('has its steps, under them their calls, and under these what they waited for', () => {
    const { root, isCoarse } = traceOf(facts(), 0)
    expect(isCoarse).toBe(false)
    expect(outline(root)).toEqual({ Turn: [{ 'model, step 1': [{ http_request: ['waited for a person'] }] }, 'model, step 2'] })
    expect([find(root, 'm1'), find(root, 'c'), find(root, 'a'), find(root, 'm2')].map(({ from, to }) => (to - from) / 1000)).toEqual([1, 7200, 7199, 1])
    expect(find(root, 'c').about).toMatchObject({ kind: 'tool', ranFor: 1000 })
    expect(find(root, 'a').note).toBe('approved by ana')
    expect(find(root, 'm1').about).toMatchObject({ kind: 'model', firstAt: start + 500, read: [] })
    expect(find(root, 'm2').about).toMatchObject({ read: [{ id: 'm1' }] })
  })

  it('says of a step what it used, what that cost and how it ended', () => {
    expect(noteOf(find(traceOf(facts(), 0).root, 'm1'))).toBe('Cut at the output limit, 1.2k in (800 cached), 30 out (20 reasoning), $0.0042')
  })

  it('says which agent in which version answered with which model, and of each step after a handover', () => {
    const told = { ...turn, agent_id: 'helper', agent_version: 3, model: 'large' }
    expect(find(traceOf(facts({ turn: told }), 0).root, 't').note).toBe('helper, version 3, large')
    expect(find(traceOf(facts({ turn: told }), 0).root, 'm1').about).toMatchObject({ by: { agentId: 'helper', version: 3, model: 'large' } })

    const handed = { ...told, agents_before: [{ agent_id: 'front', agent_version: 0, model: null, last_step: 1 }] }
    const { root } = traceOf(facts({ turn: handed }), 0)
    expect(root.note).toBe('front, a draft, then helper, version 3, large')
    expect(find(root, 'm1').about).toMatchObject({ by: { agentId: 'front', version: 0, model: null } })
    expect(noteOf(find(root, 'm1'))).toContain('front, a draft')
    expect(find(root, 'm2').about).toMatchObject({ by: { agentId: 'helper', version: 3 } })

    // What is stored with a message is right; of a service of an earlier version nothing more is known.
    const stored = { ...answer('m2', 7201), agent_id: 'other' } as Message
    expect(find(traceOf(facts({ messages: [answer('m1', 0, [call('c')]), stored] }), 0).root, 'm2').about).toMatchObject({ by: { agentId: 'other', version: null, model: null } })
    expect(traceOf(facts(), 0).root.note).toBe('')
  })

  it('has a row for each attempt of a step that was tried again', () => {
    const again = [...events.slice(0, 3), frame(0.7, { type: 'message_start', attempt: 2 }), frame(0.9, { type: 'content_delta', index: 0, text: 'x' }), ...events.slice(3)]
    const { root } = traceOf(facts({ events: again }), 0)
    expect(outline(find(root, 'm1'))).toEqual({ 'model, step 1': ['attempt 1', 'attempt 2', { http_request: ['waited for a person'] }] })
    expect(find(root, 'm1').about).toMatchObject({ firstAt: start + 900 })
    expect(find(root, 'm1-1')).toMatchObject({ status: 'failed', from: start, to: start + 700 })
    expect(noteOf(find(root, 'm1'))).toContain('attempt 2')
  })

  it('has the turns of agents that its calls asked, with their own steps, and says of one that may not be read why', () => {
    const childTurn = { ...turn, id: 'u', session_id: 'z', ended_at: at(5), tool_calls: [], subagents: [] } as unknown as Turn
    const child: Facts = { ...facts(), turn: childTurn, messages: [{ ...answer('n1', 3), turn_id: 'u' }], approvals: [], events: [event(2, 'stream.started', {}, undefined, 'u'), frame(3, { type: 'message_start', attempt: 1 }, 'n1', 'u'), frame(4, { type: 'message_end' }, 'n1', 'u')] }
    const whole = (below: Facts['below']): Row => traceOf(facts({ approvals: [], below }), 0).root
    const read = whole(new Map([['c', { agentId: 'helper', sessionId: 'z', turnId: 'u', facts: child }]]))
    expect(outline(find(read, 'c'))).toEqual({ http_request: [{ helper: ['model, step 1'] }] })
    expect(toneOf(find(read, 'u'))).toBe('three')
    const late = { ...child, turn: { ...childTurn, ended_at: at(9000) } as Turn }
    const behind = whole(new Map([['c', { agentId: 'helper', sessionId: 'z', turnId: 'u', background: true, facts: late }]]))
    expect(noteOf(find(behind, 'u'))).toContain('in the background')
    expect([find(behind, 'c').to < find(behind, 'u').to, behind.to === find(behind, 'u').to]).toEqual([true, true])
    const unread = whole(new Map([['c', { agentId: 'helper', sessionId: 'z', turnId: 'u', problem: 'No such session.' }]]))
    expect(find(unread, 'u').about).toMatchObject({ kind: 'unread', problem: 'No such session.' })
  })

  it('has a wait once that was told twice and is in the store, and not the one for an agent', () => {
    const wait = (id: string, more: Partial<ToolWait>): ToolWait => ({ id, tool_call_id: 'c', tool: 'post', kind: 'input', status: 'pending', opened_at: at(2), ended_at: null, questions: [], actions: {}, ...more }) as ToolWait
    const told = [event(2, 'tool_call.waiting', { wait: wait('w', {}) }), event(9, 'tool_call.answered', { wait: wait('w', { status: 'answered', ended_at: at(9) }) })]
    const waiting = { ...turn, waits: [wait('v', { opened_at: at(10) }), wait('x', { kind: 'agent' })] } as Turn
    const { root } = traceOf(facts({ turn: waiting, approvals: [], events: [...events.slice(0, 5), ...told] }), start + 20_000)
    expect(find(root, 'c').children.map(({ id, status, from, to }) => [id, status, (to - from) / 1000])).toEqual([['w', 'answered', 7], ['v', 'pending', 7192]])
  })

  it('that runs reaches to now, and what is not stored yet is in it from its events', () => {
    const open = { ...turn, status: 'running', ended_at: null, tool_calls: [] } as unknown as Turn
    const { root } = traceOf(facts({ turn: open, messages: [], approvals: [], events: events.slice(0, 4) }), start + 3_000)
    expect(outline(root)).toEqual({ Turn: [{ 'model, step 1': ['http_request'] }] })
    expect(find(root, 'm1')).toMatchObject({ to: start + 3_000, status: 'streaming' })
    expect(find(root, 'c').about).toMatchObject({ call: { arguments: { n: 1 } } })
  })

  it('waits for a place before it begins', () => {
    const waited = [events[0]!, frame(3, { type: 'waiting', lane: 'model', seconds: 3 }), frame(5, { type: 'waiting', lane: 'model', seconds: 5 }), frame(6, { type: 'message_start', attempt: 1 })]
    const { root } = traceOf(facts({ events: waited, messages: [answer('m1', 6)], approvals: [], turn: { ...turn, tool_calls: [] } as Turn }), 0)
    expect(root.children.map(({ name, from, to }) => [name, (from - start) / 1000, (to - start) / 1000])).toEqual([['waited for a place (model)', 0, 6], ['model, step 1', 6, 7202]])
  })

  it('falls back to the stored messages when the events are gone, and says so', () => {
    const result = { id: 'r', turn_id: 't', role: 'tool', tool_call_id: 'c', content: '1', status: 'completed', created_at: at(7201), tool_calls: [] } as unknown as Message
    const { root, isCoarse } = traceOf(facts({ events: [], messages: [answer('m1', 0, [call('c')]), result, answer('m2', 7201)] }), 0)
    expect(isCoarse).toBe(true)
    expect(find(root, 'm1').to).toBe(start + 1_000) // the approval was asked for after it
    expect(find(root, 'c')).toMatchObject({ to: start + 7201_000 })
    expect(find(root, 'c').about).toMatchObject({ ranFor: 1000 })
  })
})

describe('its axis', () => {
  it('draws a wait of hours so that the seconds beside it can be seen', () => {
    const { root } = traceOf(facts(), 0)
    const { place, breaks } = scaleOf(root, allOf(root))
    expect(breaks.map(({ from, to }) => (to - from) / 1000)).toEqual([7199])
    expect([place(root.from), place(root.to)]).toEqual([0, 1])
    expect(place(start + 1000)).toBeGreaterThan(0.15)
  })

  it('puts nothing out of order', () => {
    const days = 3 * 24 * 3600 * 1000
    const edges = [0, 20, 30, 40, 40 + days, 70 + days]
    const { place, breaks } = scaleOf({ from: 0, to: 70 + days }, edges.slice(1).map((to, index) => ({ from: edges[index]!, to })))
    expect(breaks).toHaveLength(1)
    expect(place(30)).toBeGreaterThan(0.2)
    expect(edges.map(place)).toEqual(edges.map(place).sort((one, other) => one - other))
  })
})

describe('its tree', () => {
  const { root } = traceOf(facts(), 0)
  const ids = (folded: string[]): string[] => shownOf(root, new Set(folded)).map(({ row }) => row.id)

  it('shows what is not below a folded row, each with its level and place', () => {
    expect(ids([])).toEqual(['t', 'm1', 'c', 'a', 'm2'])
    expect(ids(['c'])).toEqual(['t', 'm1', 'c', 'm2'])
    expect(ids(['t'])).toEqual(['t'])
    expect(shownOf(root, new Set()).map(({ level, place, count }) => [level, place, count])).toEqual([[1, 1, 1], [2, 1, 2], [3, 1, 1], [4, 1, 1], [2, 2, 2]])
    expect(above(root, 'a')).toEqual(['t', 'm1', 'c'])
    expect(above(root, 'gone')).toBe(null)
  })

  it.each([
    ['ArrowDown', 'm1', { to: 'c' }],
    ['ArrowDown', 'm2', null],
    ['ArrowUp', 'm2', { to: 'a' }],
    ['ArrowUp', 't', null],
    ['Home', 'm2', { to: 't' }],
    ['End', 't', { to: 'm2' }],
    ['ArrowRight', 'm1', { to: 'c' }],
    ['ArrowRight', 'a', null],
    ['ArrowLeft', 'm1', { fold: 'm1' }],
    ['ArrowLeft', 'a', { to: 'c' }],
    ['x', 'm1', null],
  ])('goes by %s from %s', (key, from, expected) => {
    expect(keyed(shownOf(root, new Set()), from, key)).toEqual(expected)
  })

  it('unfolds what is folded, and from there folds or goes up', () => {
    const shown = shownOf(root, new Set(['m1']))
    expect(keyed(shown, 'm1', 'ArrowRight')).toEqual({ unfold: 'm1' })
    expect(keyed(shown, 'm1', 'ArrowLeft')).toEqual({ to: 't' })
    expect(keyed(shown, 'm1', 'ArrowDown')).toEqual({ to: 'm2' })
  })
})
