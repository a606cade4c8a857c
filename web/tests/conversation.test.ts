import { describe, expect, it } from 'vitest'
import { apply, fromStore, openTurn, unsettled, type Conversation, type Envelope, type Message } from '../src/client'
import { message, Service, session } from './service'

function empty(): Conversation {
  return { session: session() as never, seq: 0, messages: [], turns: {}, approvals: {}, hasOlder: false }
}

function played(events: Envelope[], from: Conversation = empty()): Conversation {
  return events.reduce(apply, from)
}

function textOf(conversation: Conversation, id = 'm1'): string | undefined {
  return conversation.messages.find((known) => known.id === id)?.content
}

describe('text', () => {
  it('is the concatenation of the deltas', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'content_delta', index: 0, text: 'Hel' })
    service.frame('m1', { type: 'content_delta', index: 1, text: 'lo' })
    service.finish('m1', 'Hello')
    const end = played(service.log)
    expect(textOf(end)).toBe('Hello')
    expect(end.messages[0]?.status).toBe('completed')
    expect(unsettled(end)).toEqual([])
  })

  it('does not change when an event comes twice', () => {
    const service = new Service()
    service.begin('m1')
    const delta = service.frame('m1', { type: 'content_delta', index: 0, text: 'once' })
    expect(textOf(played([...service.log, delta, delta]))).toBe('once')
  })

  it('starts again with a higher attempt', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'content_delta', index: 0, text: 'first try' })
    service.frame('m1', { type: 'tool_call', id: 'c1', name: 'calculate', arguments: {} })
    service.frame('m1', { type: 'message_start', message_id: 'm1', attempt: 2 })
    service.frame('m1', { type: 'content_delta', index: 0, text: 'second' })
    const end = played(service.log)
    expect(textOf(end)).toBe('second')
    expect(end.messages[0]?.tool_calls).toEqual([])
  })

  it('takes nothing from an attempt that was overtaken', () => {
    const service = new Service()
    service.begin('m1', 2)
    service.frame('m1', { type: 'content_delta', index: 0, text: 'newest' })
    service.frame('m1', { type: 'message_start', message_id: 'm1', attempt: 1 })
    service.frame('m1', { type: 'content_delta', index: 0, text: 'stale' })
    expect(textOf(played(service.log))).toBe('newest')
  })

  it('is marked for reading from the store when a delta is missing', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'content_delta', index: 0, text: 'a' })
    service.frame('m1', { type: 'content_delta', index: 2, text: 'c' })
    service.finish('m1', 'abc')
    expect(unsettled(played(service.log))).toEqual(['m1'])
  })

  it('of a stored message is not written again by a repeat', () => {
    const stored = { ...empty(), messages: [fromStore(message('m1', { content: 'kept' }) as unknown as Message)] }
    const service = new Service()
    service.frame('m1', { type: 'message_start', message_id: 'm1', attempt: 7 })
    service.frame('m1', { type: 'content_delta', index: 0, text: 'again' })
    expect(textOf(played(service.log, stored))).toBe('kept')
  })
})

describe('a tool call', () => {
  it('is shown with its approval while it waits, and with its result after', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'tool_call', id: 'c1', name: 'http_request', arguments: { url: 'x' } })
    const approval = { id: 'a1', tool_call_id: 'c1', turn_id: 't1', status: 'pending' }
    const ids = { turn_id: 't1', message_id: 'm1' }
    service.emit('tool_call.pending', { approval, tool_call_id: 'c1' }, ids)
    const waiting = played(service.log)
    expect(waiting.approvals['c1']?.id).toBe('a1')
    expect(openTurn(waiting)?.status).toBe('waiting_approval')

    service.emit('tool_call.approved', { approval: { ...approval, status: 'approved' }, tool_call_id: 'c1' }, { turn_id: 't1' })
    service.emit('tool_call.completed', { tool_call: { id: 'c1', status: 'completed', result: { ok: true } } }, ids)
    const done = played(service.log)
    expect(done.messages[0]?.tool_calls[0]).toMatchObject({ status: 'completed', result: { ok: true } })
    expect(openTurn(done)?.status).toBe('running')
  })

  it('whose time ran out closes its approval', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'tool_call', id: 'c1', name: 'http_request', arguments: {} })
    const approval = { id: 'a1', tool_call_id: 'c1', turn_id: 't1', status: 'pending' }
    service.emit('tool_call.pending', { approval, tool_call_id: 'c1' }, { turn_id: 't1' })
    service.emit('tool_call.rejected', { tool_call: { id: 'c1', status: 'rejected', result: null } }, { turn_id: 't1' })
    expect(played(service.log).approvals['c1']?.status).toBe('timed_out')
  })
})

it('passes over what a newer service may tell', () => {
  const service = new Service()
  service.emit('session.renamed' as Envelope['type'], { to: 'Two' })
  expect(played(service.log)).toEqual({ ...empty(), seq: 1 })
})
