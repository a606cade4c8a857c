// A service in memory that keeps a session the way the real one does: numbered events, and messages whose text is
// stored only when they are complete. What it says is what the wire contract says, and no more.

import { Api } from '../src/client/api'
import type { AccessChange, Envelope, LiveState } from '../src/client'

type Listener = { event?(event: Envelope): void; state?(state: LiveState): void; access?(change: AccessChange): void }

export const SESSION = '0190-session'
const AT = '2030-01-01T00:00:00Z'

export class Service {
  readonly log: Envelope[] = []
  readonly messages: Record<string, unknown>[] = []
  readonly turns: Record<string, unknown>[] = []
  readonly approvals: Record<string, unknown>[] = []
  readonly requests: string[] = []
  session = session()
  /** Events up to this number are lost to the replay. */
  lostUpTo = 0
  isDown = false
  /** Whether the caller may read the session. */
  isOpen = true

  readonly api = new Api({ baseUrl: 'http://service', fetch: (input) => this.answer(String(input)) })

  emit(type: Envelope['type'], data: Record<string, unknown>, ids: { turn_id?: string; message_id?: string } = {}): Envelope {
    const event: Envelope = { seq: this.log.length + 1, type, session_id: SESSION, ...ids, at: AT, data }
    this.log.push(event)
    return event
  }

  frame(message_id: string, frame: Record<string, unknown>): Envelope {
    return this.emit('stream.chunk', { frame }, { turn_id: 't1', message_id })
  }

  /** A message that the model begins to write; returns its first two events. */
  begin(id: string, attempt = 1): Envelope[] {
    this.messages.push(message(id, { status: 'streaming' }))
    return [
      this.emit('message.created', { id, role: 'assistant', status: 'streaming' }, { turn_id: 't1', message_id: id }),
      this.frame(id, { type: 'message_start', message_id: id, attempt }),
    ]
  }

  /** more: what is stored of it beside its text. */
  finish(id: string, content: string, more: { finish_reason?: string; reasoning?: string; output?: unknown } = {}): Envelope[] {
    const finish_reason = more.finish_reason ?? 'stop'
    Object.assign(this.messages.find((known) => known['id'] === id)!, { content, status: 'completed', ...more, finish_reason })
    return [
      this.frame(id, { type: 'message_end', message_id: id, finish_reason, usage: null }),
      this.emit('message.updated', { id, role: 'assistant', status: 'completed', finish_reason }, { turn_id: 't1', message_id: id }),
    ]
  }

  private async answer(url: string): Promise<Response> {
    const { pathname, searchParams } = new URL(url)
    this.requests.push(pathname + url.slice(url.indexOf('?')))
    if (this.isDown) throw new TypeError('Failed to fetch')
    const path = pathname.replace('/api/v1', '')
    if (!this.isOpen) return json({ code: 'SESSION_NOT_FOUND', detail: 'No such session.', status: 404 }, 404)
    if (path === `/sessions/${SESSION}`) return json(this.session)
    if (path === `/sessions/${SESSION}/events`) return json(this.replay(searchParams))
    if (path === `/sessions/${SESSION}/messages`) return json(newestFirst(this.messages, searchParams))
    if (path === `/sessions/${SESSION}/turns`) return json(newestFirst(this.turns, searchParams))
    if (path === `/sessions/${SESSION}/approvals`) return json(newestFirst(this.approvals, searchParams))
    const one = this.messages.find((known) => path.endsWith(`/messages/${String(known['id'])}`))
    if (one !== undefined) return json(one)
    return json({ code: 'SESSION_NOT_FOUND', detail: 'No such session.', status: 404 }, 404)
  }

  private replay(query: URLSearchParams): unknown {
    const after = Number(query.get('after'))
    const limit = Number(query.get('limit'))
    const kept = this.log.filter((event) => event.seq > Math.max(after, this.lostUpTo))
    const items = kept.slice(0, limit)
    return {
      items,
      next_cursor: kept.length > limit ? String(items.at(-1)!.seq) : null,
      last_seq: this.log.length,
      gap: after < this.lostUpTo,
    }
  }
}

/** The live connection, in the hands of a test. */
export class Line {
  current: LiveState = 'live'
  private readonly listeners = new Set<Listener>()

  listen(listener: Listener): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  async join(): Promise<() => Promise<void>> {
    return async () => undefined
  }

  send(...events: Envelope[]): void {
    for (const event of events) for (const listener of this.listeners) listener.event?.(event)
  }

  tell(access: AccessChange['access'], session_id = SESSION): void {
    for (const listener of this.listeners) listener.access?.({ session_id, access })
  }

  become(state: LiveState): void {
    this.current = state
    for (const listener of this.listeners) listener.state?.(state)
  }
}

export function session(): Record<string, unknown> {
  return { id: SESSION, name: 'One', status: 'ACTIVE', agent_id: null, active_branch: 0, config: {}, tags: [], metadata: {}, created_at: AT, updated_at: AT }
}

export function message(id: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return { id, session_id: SESSION, turn_id: 't1', role: 'assistant', content: '', attachments: [], tool_calls: [], tool_call_id: null, status: 'completed', created_at: AT, ...more }
}

/** One page of a list that is kept oldest first. */
function newestFirst(kept: Record<string, unknown>[], query: URLSearchParams): unknown {
  const from = Number(query.get('cursor'))
  const until = from + Number(query.get('limit'))
  return { items: [...kept].reverse().slice(from, until), next_cursor: until < kept.length ? String(until) : null }
}

function json(value: unknown, status = 200): Response {
  return new Response(JSON.stringify(value), { status, headers: { 'content-type': 'application/json' } })
}
