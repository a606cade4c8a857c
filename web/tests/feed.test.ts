import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SessionFeed, type Conversation } from '../src/client'
import { Line, message, Service, SESSION } from './service'

let service: Service
let line: Line
let feed: SessionFeed

beforeEach(() => {
  vi.useFakeTimers()
  service = new Service()
  line = new Line()
  feed = new SessionFeed(service.api, line, SESSION)
})

afterEach(async () => {
  await feed.close()
  vi.useRealTimers()
})

async function pass(ms = 0): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms)
}

function shown(): Conversation {
  const state = feed.current
  if (state.phase !== 'ready') throw new Error(`the feed is ${state.phase}`)
  return state.conversation
}

function text(id = 'm1'): string | undefined {
  return shown().messages.find((known) => known.id === id)?.content
}

describe('opening', () => {
  it('shows what is stored', async () => {
    service.messages.push(message('m0', { role: 'user', content: 'hi' }))
    feed.start()
    await pass()
    expect(text('m0')).toBe('hi')
  })

  it('in mid-stream shows the text so far, and goes on', async () => {
    service.begin('m1')
    service.frame('m1', { type: 'content_delta', index: 0, text: 'so ' })
    service.frame('m1', { type: 'content_delta', index: 1, text: 'far' })
    feed.start()
    await pass()
    expect(text()).toBe('so far')
    line.send(service.frame('m1', { type: 'content_delta', index: 2, text: ', so good' }))
    expect(text()).toBe('so far, so good')
  })

  it('in mid-stream shows the reasoning so far, and goes on', async () => {
    service.begin('m1')
    service.frame('m1', { type: 'reasoning_delta', index: 0, text: 'Let me ' })
    service.frame('m1', { type: 'reasoning_delta', index: 1, text: 'see' })
    feed.start()
    await pass()
    expect(shown().messages[0]).toMatchObject({ reasoning: 'Let me see', content: '' })
    line.send(service.frame('m1', { type: 'reasoning_delta', index: 2, text: ': yes.' }))
    line.send(service.frame('m1', { type: 'content_delta', index: 0, text: 'Yes' }))
    expect(shown().messages[0]).toMatchObject({ reasoning: 'Let me see: yes.', content: 'Yes' })
  })

  it('reads turns and approvals as far back as the messages it shows, and no further', async () => {
    const of = (number: number): { id: string; at: string } => ({
      id: `t${String(number).padStart(4, '0')}`,
      at: new Date(Date.UTC(2030, 0, 1) + number * 60_000).toISOString(),
    })
    // Two turns of three stand on another branch, whose messages are not shown.
    for (let number = 0; number < 900; number++) {
      const { id, at } = of(number)
      service.turns.push({ id, status: 'completed', usage: { input_tokens: 1, output_tokens: 1 }, steps: 1, error: null, started_at: at, ended_at: at, created_at: at, message_id: `m${id}` })
      service.approvals.push({ id: `a${id}`, tool_call_id: `c${id}`, turn_id: id, status: 'approved', requested_at: at })
      if (number % 3 === 0) service.messages.push(message(`m${id}`, { turn_id: id, created_at: at }))
    }
    const asked = (list: string): number => service.requests.filter((url) => url.includes(`/${list}?`)).length
    feed.start()
    await pass()
    const complete = (): boolean =>
      shown().messages.every(({ turn_id }) => shown().turns[turn_id!] !== undefined && shown().approvals[`c${turn_id}`] !== undefined)
    expect(shown().messages).toHaveLength(100)
    expect(complete()).toBe(true)
    expect([asked('turns'), asked('approvals')]).toEqual([3, 2])

    expect(await feed.older()).toBe(false)
    expect(shown().messages).toHaveLength(300)
    expect(complete()).toBe(true)
    expect([asked('turns'), asked('approvals')]).toEqual([9, 5])
  })

  it('shows the newest progress of a call that runs', async () => {
    const ids = { turn_id: 't1', message_id: 'm1' }
    service.turns.push({ id: 't1', status: 'running', usage: { input_tokens: 1, output_tokens: 1 }, steps: 1, error: null, started_at: null, ended_at: null, created_at: '2030-01-01T00:00:00Z', message_id: 'm0' })
    service.messages.push(message('m1', { turn_id: 't1', tool_calls: [{ id: 'c1', message_id: 'm1', name: 'reads', arguments: {}, decided_arguments: null, status: 'pending', result: null }] }))
    for (const text of ['3 of 10', '4 of 10']) {
      service.emit('tool_call.progress', { tool_call: { id: 'c1', message_id: 'm1', name: 'reads' }, text, fraction: null }, ids)
    }
    feed.start()
    await pass()
    expect(shown().progress).toEqual({ c1: { text: '4 of 10', fraction: null } })
  })

  it('tries again by itself while the service cannot be reached, and joins once', async () => {
    const join = vi.spyOn(line, 'join')
    service.isDown = true
    feed.start()
    await pass()
    expect(feed.current.phase).toBe('failed')
    service.isDown = false
    await pass(2_000)
    expect(feed.current.phase).toBe('ready')
    expect(join).toHaveBeenCalledTimes(1)
  })

  it('tells that there is no such session', async () => {
    feed = new SessionFeed(service.api, line, 'unknown')
    feed.start()
    await pass()
    expect(feed.current).toMatchObject({ phase: 'failed', error: { code: 'SESSION_NOT_FOUND' } })
    const asked = service.requests.length
    await pass(120_000)
    expect(service.requests.length).toBe(asked)
  })
})

describe('following', () => {
  beforeEach(async () => {
    feed.start()
    await pass()
  })

  it('puts events that overtook one another into order without asking', async () => {
    const [created, started] = service.begin('m1')
    const asked = service.requests.length
    line.send(started!, created!)
    expect(shown().seq).toBe(2)
    expect(service.requests.length).toBe(asked)
  })

  it('reads a hole from the replay before it shows what follows', async () => {
    line.send(...service.begin('m1'))
    service.frame('m1', { type: 'content_delta', index: 0, text: 'lost ' })
    line.send(service.frame('m1', { type: 'content_delta', index: 1, text: 'found' }))
    expect(text()).toBe('')
    await pass(500)
    expect(text()).toBe('lost found')
  })

  it('ends with the stored text when the connection is lost in mid-stream', async () => {
    line.send(...service.begin('m1'))
    line.send(service.frame('m1', { type: 'content_delta', index: 0, text: 'be' }))
    line.become('reconnecting')
    service.isDown = true
    service.frame('m1', { type: 'content_delta', index: 1, text: 'fore' })
    service.finish('m1', 'before')
    await pass(4_000)
    expect(text()).toBe('be')
    service.isDown = false
    line.become('live')
    await pass(3_000)
    expect(text()).toBe('before')
    expect(shown().messages).toHaveLength(1)
  })

  it('ends with the stored reasoning when a part of it was not seen', async () => {
    line.send(...service.begin('m1'))
    line.send(service.frame('m1', { type: 'reasoning_delta', index: 0, text: 'be' }))
    service.frame('m1', { type: 'reasoning_delta', index: 1, text: 'cause' })
    service.lostUpTo = service.log.length
    line.become('live')
    await pass(1_000)
    expect(shown().messages[0]?.reasoning).toBe('be')
    line.send(...service.finish('m1', 'So.', { reasoning: 'because', finish_reason: 'length' }))
    await pass(1_000)
    expect(shown().messages[0]).toMatchObject({ reasoning: 'because', content: 'So.', finish_reason: 'length' })
  })

  it('reads the JSON of an answer to a schema once it has ended', async () => {
    const content = '{"city": "Paris"}'
    line.send(...service.begin('m1'))
    line.send(service.frame('m1', { type: 'content_delta', index: 0, text: content }))
    expect(shown().messages[0]?.output).toBe(null)
    line.send(...service.finish('m1', content, { output: { city: 'Paris' } }))
    await pass(1_000)
    expect(shown().messages[0]).toMatchObject({ output: { city: 'Paris' }, incomplete: false })
  })

  it('loads everything again when the replay has lost a part', async () => {
    line.send(...service.begin('m1'))
    service.frame('m1', { type: 'content_delta', index: 0, text: 'gone' })
    service.finish('m1', 'gone for good')
    service.messages.push(message('m2', { content: 'later' }))
    service.lostUpTo = service.log.length
    line.become('live')
    await pass(1_000)
    expect(text('m1')).toBe('gone for good')
    expect(text('m2')).toBe('later')
  })

  it('keeps what it showed of an open message whose events are lost, and reads it when it has ended', async () => {
    line.send(...service.begin('m1'))
    line.send(service.frame('m1', { type: 'content_delta', index: 0, text: 'kept' }))
    service.frame('m1', { type: 'content_delta', index: 1, text: ' and lost' })
    service.lostUpTo = service.log.length
    line.become('live')
    await pass(1_000)
    expect(text()).toBe('kept')
    line.send(...service.finish('m1', 'kept and lost'))
    await pass(1_000)
    expect(text()).toBe('kept and lost')
  })

  it('notices the last event of all even when nobody told it', async () => {
    line.send(...service.begin('m1'))
    service.frame('m1', { type: 'content_delta', index: 0, text: 'quiet' })
    service.finish('m1', 'quiet')
    await pass(60_000)
    expect(text()).toBe('quiet')
  })

  it('asks on its own while there is no live connection', async () => {
    line.become('reconnecting')
    service.begin('m1')
    service.frame('m1', { type: 'content_delta', index: 0, text: 'polled' })
    await pass(2_000)
    expect(text()).toBe('polled')
  })

  it('shows the other branch when somebody elsewhere goes on from there', async () => {
    line.send(...service.begin('m1'), ...service.finish('m1', 'the first answer'))
    service.messages.splice(0, 1, message('m2', { content: 'the answer over there', branch: 1 }))
    service.session = { ...service.session, active_branch: 1 }
    line.send(service.emit('session.activated', { session: service.session, active_branch: 1 }))
    await pass(1_000)
    expect(shown().messages.map(({ content }) => content)).toEqual(['the answer over there'])
  })

  it('hears nothing of another session, and nothing after it was closed', async () => {
    const [created] = service.begin('m1')
    line.send({ ...created!, session_id: 'another' })
    expect(shown().messages).toEqual([])
    await feed.close()
    line.send(created!)
    expect(shown().messages).toEqual([])
  })
})

describe('the right to read', () => {
  it('is found to be gone as soon as that is told, and to be back', async () => {
    service.messages.push(message('m0', { role: 'user', content: 'hi' }))
    feed.start()
    await pass()
    service.isOpen = false
    line.tell(null, 'another session')
    await pass()
    expect(feed.current.phase).toBe('ready')
    line.tell(null)
    await pass()
    expect(feed.current).toMatchObject({ phase: 'failed', error: { status: 404 } })
    service.isOpen = true
    line.tell('read')
    await pass()
    expect(text('m0')).toBe('hi')
  })

  it('is what the service says, whatever was told', async () => {
    feed.start()
    await pass()
    line.tell(null)
    await pass()
    expect(feed.current.phase).toBe('ready')
  })

  it('is looked at again after a refusal', async () => {
    feed.start()
    await pass()
    service.isOpen = false
    feed.check()
    await pass()
    expect(feed.current.phase).toBe('failed')
  })
})
