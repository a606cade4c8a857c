import { describe, expect, it } from 'vitest'
import { apply, fromStore, openTurn, unsettled, withStored, type Conversation, type Envelope, type Message } from '../src/client'
import { message, Service, session } from './service'

function empty(): Conversation {
  return { session: session() as never, seq: 0, messages: [], turns: {}, approvals: {}, progress: {}, questions: {}, subagents: {}, hasOlder: false }
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

  it('of a message that nobody told of begins with its first frame, as long as its turn is open', () => {
    const service = new Service()
    service.emit('message.created', { id: 'm0', role: 'user', content: 'hi', status: 'completed' }, { turn_id: 't1', message_id: 'm0' })
    service.frame('m1', { type: 'message_start', message_id: 'm1', attempt: 2 })
    service.frame('m1', { type: 'content_delta', index: 0, text: 'there' })
    const open = played(service.log)
    expect([textOf(open), openTurn(open)?.status]).toEqual(['there', 'running'])
    service.emit('stream.ended', { status: 'completed' }, { turn_id: 't1' })
    service.frame('m2', { type: 'message_start', message_id: 'm2', attempt: 2 })
    expect(played(service.log).messages.map(({ id }) => id)).toEqual(['m0', 'm1'])
  })

  it('begins after a long wait for a place, which the turn tells of until then', () => {
    const service = new Service()
    service.emit('stream.chunk', { frame: { type: 'waiting', lane: 'model', seconds: 12 } }, { turn_id: 't1' })
    expect(played(service.log).turns['t1']).toMatchObject({ status: 'queued', waits: true })
    service.begin('m1')
    service.frame('m1', { type: 'content_delta', index: 0, text: 'at last' })
    const begun = played(service.log)
    expect([textOf(begun), begun.turns['t1']?.waits]).toEqual(['at last', false])
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

describe('reasoning', () => {
  const reasoningOf = (conversation: Conversation): string | null | undefined => conversation.messages[0]?.reasoning

  it('is the concatenation of its own deltas, counted apart from those of the text', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'reasoning_delta', index: 0, text: 'First ' })
    service.frame('m1', { type: 'reasoning_delta', index: 1, text: 'this.' })
    service.frame('m1', { type: 'content_delta', index: 0, text: 'So ' })
    service.frame('m1', { type: 'reasoning_delta', index: 2, text: ' Then that.' })
    service.frame('m1', { type: 'content_delta', index: 1, text: 'be it.' })
    const end = played(service.log)
    expect([reasoningOf(end), textOf(end)]).toEqual(['First this. Then that.', 'So be it.'])
  })

  it('starts again with a higher attempt, and takes nothing from one that was overtaken', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'reasoning_delta', index: 0, text: 'first try' })
    service.frame('m1', { type: 'message_start', message_id: 'm1', attempt: 2 })
    expect(reasoningOf(played(service.log))).toBe(null)
    service.frame('m1', { type: 'reasoning_delta', index: 0, text: 'second' })
    service.frame('m1', { type: 'message_start', message_id: 'm1', attempt: 1 })
    service.frame('m1', { type: 'reasoning_delta', index: 0, text: 'stale' })
    expect(reasoningOf(played(service.log))).toBe('second')
  })

  it('is marked for reading from the store when a delta is missing', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'reasoning_delta', index: 1, text: 'b' })
    service.frame('m1', { type: 'content_delta', index: 0, text: 'text' })
    service.finish('m1', 'text')
    expect(unsettled(played(service.log))).toEqual(['m1'])
  })
})

describe('what is told of a message later', () => {
  it.each(['stop', 'length', 'content_filter', 'refusal', 'cancelled'])('says that it ended with %s', (finish_reason) => {
    const service = new Service()
    service.begin('m1')
    service.finish('m1', '', { finish_reason })
    expect(played(service.log).messages[0]).toMatchObject({ status: 'completed', finish_reason })
  })

  it('that it is left out changes neither its state nor its end', () => {
    const stored = { ...empty(), messages: [fromStore(message('m1', { content: 'kept', finish_reason: 'length' }) as unknown as Message)] }
    const service = new Service()
    service.emit('message.updated', { id: 'm1', role: 'assistant', left_out: 'content_filter' }, { message_id: 'm1' })
    expect(played(service.log, stored).messages[0]).toMatchObject({
      status: 'completed', finish_reason: 'length', left_out: 'content_filter', content: 'kept', incomplete: false,
    })
  })

  it('of a turn is how its last answer ended, and what it used and cost', () => {
    const usage = { input_tokens: 5, output_tokens: 4, cached_input_tokens: 3, reasoning_tokens: 2, cost_usd: 0.001 }
    const service = new Service()
    service.begin('m1')
    service.emit('stream.ended', { status: 'completed', usage, steps: 1, finish_reason: 'length' }, { turn_id: 't1' })
    expect(played(service.log).turns['t1']).toMatchObject({ status: 'completed', usage, finish_reason: 'length' })
  })

  it('may be an answer to a schema: whatever looks like one is read from the store, and nothing else is', () => {
    const isRead = (content: string, finish_reason = 'stop'): boolean => {
      const service = new Service()
      service.begin('m1')
      service.frame('m1', { type: 'content_delta', index: 0, text: content })
      service.finish('m1', content, { finish_reason })
      return unsettled(played(service.log)).length === 1
    }
    expect(['{"a": 1}', '\n {"a": 1}', '```json\n{"a": 1}\n```', '```\n{}\n```'].map((content) => isRead(content))).toEqual([true, true, true, true])
    expect(['Words {"a": 1}', '[1]', '```py\nx = {}\n```', ''].map((content) => isRead(content))).toEqual([false, false, false, false])
    expect(isRead('{"a":', 'length')).toBe(false)
    const stored = { ...empty(), messages: [fromStore(message('m1', { content: '{"a": 1}' }) as unknown as Message)] }
    const service = new Service()
    service.emit('message.updated', { id: 'm1', status: 'completed', finish_reason: 'stop' }, { message_id: 'm1' })
    expect(unsettled(played(service.log, stored))).toEqual([])
  })
})

it('of a message says who wrote it', () => {
  const service = new Service()
  service.emit('message.created', { id: 'm0', role: 'user', content: 'hi', author: 'ana', status: 'completed' }, { turn_id: 't1', message_id: 'm0' })
  service.emit('message.created', { id: 'm2', role: 'user', content: 'hi', status: 'completed' }, { turn_id: 't1', message_id: 'm2' })
  expect(played(service.log).messages.map(({ author }) => author)).toEqual(['ana', null])
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

  it('asks its user until it is answered, and again', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'tool_call', id: 'c1', name: 'rooms__book', arguments: {} })
    const ids = { turn_id: 't1', message_id: 'm1' }
    const wait = { id: 'w1', tool_call_id: 'c1', status: 'pending', questions: [] }
    service.emit('tool_call.waiting', { wait }, ids)
    expect(played(service.log).questions['c1']?.id).toBe('w1')
    expect(openTurn(played(service.log))?.status).toBe('waiting_input')

    service.emit('tool_call.answered', { wait: { ...wait, status: 'answered' } }, { turn_id: 't1' })
    expect(openTurn(played(service.log))?.status).toBe('running')
    service.emit('tool_call.waiting', { wait: { ...wait, id: 'w2' } }, ids)
    expect(openTurn(played(service.log))?.status).toBe('waiting_input')

    service.emit('tool_call.completed', { tool_call: { id: 'c1', status: 'completed', result: {} } }, ids)
    expect(played(service.log).questions).toEqual({})
    expect(openTurn(played(service.log))?.status).toBe('running')
  })

  it('shows its newest progress until it ends', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'tool_call', id: 'c1', name: 'reads', arguments: {} })
    const ids = { turn_id: 't1', message_id: 'm1' }
    const tell = (text: string, fraction: number | null): void => {
      service.emit('tool_call.progress', { tool_call: { id: 'c1', message_id: 'm1', name: 'reads' }, text, fraction }, ids)
    }
    tell('3 of 10', 0.3)
    tell('waiting', null)
    expect(played(service.log).progress).toEqual({ c1: { text: 'waiting', fraction: null } })
    expect(played(service.log).messages[0]?.tool_calls[0]?.status).toBe('pending')

    service.emit('tool_call.completed', { tool_call: { id: 'c1', status: 'completed', result: null } }, ids)
    tell('late', 1)
    expect(played(service.log).progress).toEqual({})
  })

  it('shows the agent that it asked, and the one below that, until they end', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'tool_call', id: 'c1', name: 'ask_helper', arguments: {} })
    const tell = (callId: string, type: string, data: object): void => {
      const subagent = { tool_call_id: callId, agent_id: `agent of ${callId}`, session_id: `s-${callId}`, turn_id: `t-${callId}` }
      service.emit('stream.chunk', { frame: { type: 'subagent', subagent, told: { type, data } } }, { turn_id: 't1' })
    }
    const chunk = (callId: string, frame: object): void => tell(callId, 'stream.chunk', { frame })
    chunk('c1', { type: 'message_start', message_id: 'm9', attempt: 1 })
    chunk('c1', { type: 'content_delta', index: 0, text: 'first' })
    chunk('c1', { type: 'message_start', message_id: 'm9', attempt: 2 })
    chunk('c1', { type: 'tool_call', id: 'c2', name: 'ask_other', arguments: {} })
    tell('c2', 'tool_call.pending', { approval: { id: 'a1', status: 'pending' }, tool_call_id: 'c3' })
    const asks = played(service.log)
    expect(openTurn(asks)?.status).toBe('waiting_approval')
    expect(asks.subagents['c1']).toMatchObject({ agent_id: 'agent of c1', status: 'running', text: '', calls: [{ id: 'c2', name: 'ask_other' }] })

    tell('c2', 'tool_call.approved', { approval: { id: 'a1', status: 'approved' }, tool_call_id: 'c3' })
    tell('c2', 'stream.ended', { status: 'completed' })
    const goesOn = played(service.log)
    expect(openTurn(goesOn)?.status).toBe('running')
    expect(goesOn.subagents['c2']?.status).toBe('completed')
    expect(goesOn.messages).toHaveLength(1)
  })

  it('does not wait for one that works in the background, which goes on when its turn has ended', () => {
    const service = new Service()
    service.begin('m1')
    service.frame('m1', { type: 'tool_call', id: 'c1', name: 'ask_helper', arguments: {} })
    const subagent = { tool_call_id: 'c1', agent_id: 'helper', session_id: 's1', turn_id: 'u1', background: true }
    const tell = (type: string, data: object): void => {
      service.emit('stream.chunk', { frame: { type: 'subagent', subagent, told: { type, data } } }, { turn_id: 't1' })
    }
    tell('tool_call.pending', { approval: { id: 'a1', status: 'pending' }, tool_call_id: 'c3' })
    expect(openTurn(played(service.log))?.status).toBe('running')
    service.emit('stream.ended', { status: 'completed', usage: null, steps: 1, finish_reason: 'stop' }, { turn_id: 't1' })
    expect(played(service.log).subagents['c1']).toMatchObject({ background: true, status: 'waiting_approval' })
    tell('stream.ended', { status: 'completed' })
    const end = played(service.log)
    expect([end.subagents['c1']?.status, end.turns['t1']?.status]).toEqual(['completed', 'completed'])
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

describe('order', () => {
  it('is that of the conversation, also when a message is queued behind a turn that waits', () => {
    const service = new Service()
    const ids = (turn_id: string, message_id: string) => ({ turn_id, message_id })
    service.emit('message.created', { id: 'm1', role: 'user', content: 'Q1', status: 'completed' }, ids('t1', 'm1'))
    service.emit('message.created', { id: 'm2', role: 'assistant', status: 'streaming' }, ids('t1', 'm2'))
    service.emit('message.created', { id: 'm3', role: 'user', content: 'Q2', status: 'completed' }, ids('t2', 'm3'))
    service.emit('message.created', { id: 'm4', role: 'tool', status: 'completed' }, ids('t1', 'm4'))
    service.emit('message.created', { id: 'm5', role: 'assistant', status: 'streaming' }, ids('t1', 'm5'))
    service.emit('message.created', { id: 'm6', role: 'assistant', status: 'streaming' }, ids('t2', 'm6'))
    const live = played(service.log)
    const order = ['m1', 'm2', 'm4', 'm5', 'm3', 'm6']
    expect(live.messages.map(({ id }) => id)).toEqual(order)
    const stored = live.messages.map(({ id, role, turn_id }) => message(id, { role, turn_id }) as unknown as Message)
    expect(withStored(empty(), stored.reverse()).messages.map(({ id }) => id)).toEqual(order)
  })
  it('has a message that joined a turn behind the answer that it followed, whenever the next answer says that it began', () => {
    const service = new Service()
    const ids = (message_id: string) => ({ turn_id: 't1', message_id })
    const joined = { role: 'user', status: 'completed', joined: true }
    service.emit('message.created', { id: 'm1', role: 'user', content: 'Q', status: 'completed' }, ids('m1'))
    service.emit('message.created', { id: 'm2', ...joined, content: 'at once' }, ids('m2'))
    service.emit('message.created', { id: 'm3', role: 'assistant', status: 'streaming' }, ids('m3'))
    service.emit('message.created', { id: 'm5', ...joined, content: 'then', joined_after: 'm3' }, ids('m5'))
    service.emit('message.created', { id: 'm4', role: 'assistant', status: 'streaming' }, ids('m4'))
    const live = played(service.log)
    expect(live.messages.map(({ id }) => id)).toEqual(['m1', 'm2', 'm3', 'm5', 'm4'])
    expect(live.turns['t1']?.message_id).toBe('m1')
  })
})
