// The current state of a session: loads it, follows its events, recovers missed ones.
//
// Invariants: events are applied once and in order of `seq`. A missing event is read from the replay before later ones
// are shown. If the replay has lost events (`gap`), everything is loaded again. When a turn is over, every shown
// message equals the stored one.

import { subagentsOf } from './subagents.js'
import { ApiError, type Api } from './api.js'
import { Backwards } from './backwards.js'
import {
  apply,
  fromStore,
  isOver,
  openTurn,
  progressed,
  turnFromStore,
  unsettled,
  withStored,
  type Conversation,
  type MessageView,
} from './conversation.js'
import type { Live, LiveState } from './live.js'
import type { Approval, Envelope, Message, Page, Session, Turn } from './models.js'

export type FeedState =
  | { phase: 'loading' }
  | { phase: 'failed'; error: ApiError }
  | { phase: 'ready'; conversation: Conversation }

type LiveLike = Pick<Live, 'current' | 'join' | 'listen'>

const FIRST_MESSAGES = 100
const OLDER_MESSAGES = 200
const TURNS = 100
const APPROVALS = 200
const LOOK_BACK = [400, 2_000, 10_000]
/** A call tells of its progress at least this close to its end, or shows none until the next time. */
const PROGRESS_BACK = 400
/** How often the replay is read although nothing seems missing, since a missed last event leaves no gap in `seq`. */
const CHECK_MS = 12_000
const POLL_MS = 1_500
const REORDER_MS = 120

export class SessionFeed {
  private state: FeedState = { phase: 'loading' }
  private readonly listeners = new Set<(state: FeedState) => void>()
  private early = new Map<number, Envelope>()
  private leave: (() => Promise<void>) | null = null
  private stopListening: (() => void) | null = null
  private work: Promise<void> = Promise.resolve()
  private catchUpTimer: ReturnType<typeof setTimeout> | null = null
  private checkTimer: ReturnType<typeof setTimeout> | null = null
  private closed = false
  private readonly path: string
  private olderCursor: string | null = null
  private turns!: Backwards<Turn>
  private approvals!: Backwards<Approval>

  constructor(
    private readonly api: Api,
    private readonly live: LiveLike,
    readonly sessionId: string,
  ) {
    this.path = `/sessions/${encodeURIComponent(sessionId)}`
    this.fromTheNewest()
  }

  get current(): FeedState {
    return this.state
  }

  subscribe(listener: (state: FeedState) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  start(): void {
    this.stopListening = this.live.listen({
      event: (event) => this.heard(event),
      state: (state) => this.connection(state),
      access: ({ session_id, access }) => {
        if (session_id !== this.sessionId) return
        if (access !== null && this.isRefused) void this.queue(() => this.openAgain())
        else this.check()
      },
    })
    this.queue(() => this.open())
    this.scheduleCheck()
  }

  /** Stop following; done when the service has been told. */
  async close(): Promise<void> {
    this.closed = true
    this.stopListening?.()
    if (this.catchUpTimer !== null) clearTimeout(this.catchUpTimer)
    if (this.checkTimer !== null) clearTimeout(this.checkTimer)
    await this.leave?.()
  }

  /** Load everything again, as after a failure or a switch of branches. */
  reload(): Promise<void> {
    return this.queue(() => this.load())
  }

  /** Add the result of this page's own request; its event may arrive before or after. */
  posted(posted: { message: Message; turn: Turn }): void {
    const conversation = this.conversation
    if (conversation === null) return
    const known = conversation.turns[posted.turn.id]
    this.show({
      ...withStored(conversation, conversation.messages.some(({ id }) => id === posted.message.id) ? [] : [posted.message]),
      turns: known === undefined ? { ...conversation.turns, [posted.turn.id]: turnFromStore(posted.turn) } : conversation.turns,
    })
  }

  /** Find out now whether the session can still be read, as after a refusal. */
  check(): void {
    if (this.catchUpTimer !== null) clearTimeout(this.catchUpTimer)
    this.catchUpTimer = null
    this.catchUpSoon(0)
  }

  session(session: Session): void {
    if (this.conversation !== null) this.show({ ...this.conversation, session })
  }

  /** Load one page of older messages; returns whether there are more. */
  async older(): Promise<boolean> {
    const conversation = this.conversation
    const oldest = conversation?.messages[0]
    if (conversation === null || conversation === undefined || oldest === undefined || !conversation.hasOlder) return false
    const cursor = this.olderCursor
    if (cursor === null) return false
    const page: Page<Message> = await this.api.get(`${this.path}/messages`, { order: 'desc', limit: OLDER_MESSAGES, cursor })
    this.olderCursor = page.next_cursor
    if (this.conversation === null) return false
    const whole = await this.withTheirTurns(withStored(this.conversation, page.items))
    const now = this.conversation
    // Only merge what was read, since events may have arrived meanwhile.
    this.show({
      ...withStored(now, page.items),
      turns: { ...whole.turns, ...now.turns },
      approvals: { ...whole.approvals, ...now.approvals },
      hasOlder: page.next_cursor !== null,
    })
    return page.next_cursor !== null
  }

  private get conversation(): Conversation | null {
    return this.state.phase === 'ready' ? this.state.conversation : null
  }

  /** Whether the service refused, so that a retry is useless. */
  private get isRefused(): boolean {
    return this.state.phase === 'failed' && !this.state.error.isPassing
  }

  private async open(): Promise<void> {
    try {
      this.leave ??= await this.live.join(this.sessionId)
      if (this.closed) await this.leave()
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (!error.isPassing) {
        this.tell({ phase: 'failed', error })
        return
      }
    }
    await this.load()
  }

  /** After the caller was taken out and let in again: the connection has left the session's group. */
  private async openAgain(): Promise<void> {
    await this.leave?.()
    this.leave = null
    await this.open()
  }

  private async load(): Promise<void> {
    try {
      // Read the position first, so that events during the following reads are applied afterwards.
      const position = await this.api.events(this.sessionId, 0, 1)
      this.fromTheNewest()
      const [session, newest, turns, approvals] = await Promise.all([
        this.api.get<Session>(this.path),
        this.api.get<Page<Message>>(`${this.path}/messages`, { order: 'desc', limit: FIRST_MESSAGES }),
        this.turns.older(),
        this.approvals.older(),
      ])
      this.olderCursor = newest.next_cursor
      const loaded = await this.withTheirTurns({
        session,
        seq: Math.max(position.last_seq, this.conversation?.seq ?? 0),
        messages: newest.items.map((message) => this.remembered(fromStore(message))).reverse(),
        turns: turnsById(turns),
        approvals: approvalsByCall(approvals),
        progress: {},
        questions: questionsByCall(turns),
        subagents: subagentsOf(turns),
        hasOlder: newest.next_cursor !== null,
      })
      const present = (await this.range(loaded.seq)).reduce(apply, loaded)
      const open = present.messages.find((message) => message.status === 'streaming' && message.incomplete)
      this.show(open === undefined ? await this.withProgressSoFar(present) : await this.withTextSoFar(present, open.id))
      this.drain()
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (this.conversation === null) this.tell({ phase: 'failed', error })
      if (error.isPassing) this.catchUpSoon(POLL_MS)
    }
  }

  private fromTheNewest(): void {
    this.turns = new Backwards(this.api, `${this.path}/turns`, TURNS)
    this.approvals = new Backwards(this.api, `${this.path}/approvals`, APPROVALS)
  }

  /** Add the turns and approvals of all loaded messages, however far back those go. */
  private async withTheirTurns(conversation: Conversation): Promise<Conversation> {
    const { messages } = conversation
    let { turns, approvals } = conversation
    // Ids are UUIDv7, so they sort by creation time. A turn newer than all that were read arrives with the events.
    while (!this.turns.isAtEnd && messages.some(({ turn_id }) => turn_id !== null && turn_id < (this.turns.oldest?.id ?? ''))) {
      turns = { ...turnsById(await this.turns.older()), ...turns }
    }
    // The approval of a call is requested after the call's message began.
    const begun = Date.parse(messages[0]?.created_at ?? '')
    while (!this.approvals.isAtEnd && Date.parse(this.approvals.oldest?.requested_at ?? '') >= begun) {
      approvals = { ...approvalsByCall(await this.approvals.older()), ...approvals }
    }
    return { ...conversation, turns, approvals }
  }

  /** What this page has seen of a streaming message, which the store does not have yet. */
  private remembered(message: MessageView): MessageView {
    if (message.status !== 'streaming') return message
    const known = this.conversation?.messages.find(({ id }) => id === message.id)
    return known === undefined ? message : { ...known, nextIndex: null, nextReasoning: null, incomplete: true }
  }

  /** Add the text so far of a streaming message, which only the events since its start contain. */
  private async withTextSoFar(conversation: Conversation, messageId: string): Promise<Conversation> {
    for (const back of LOOK_BACK) {
      const from = Math.max(0, conversation.seq - back)
      const events = await this.range(from, conversation.seq)
      const start = events.findIndex((event) => event.message_id === messageId && frameType(event) === 'message_start')
      if (start < 0 && from > 0) continue
      if (start < 0) return conversation
      const replayed = events.slice(start).filter((event) => event.seq <= conversation.seq && event.type === 'stream.chunk')
      let text: Conversation = { ...conversation, seq: (replayed[0]?.seq ?? 1) - 1 }
      for (const event of replayed) text = apply(text, event)
      return { ...text, seq: conversation.seq }
    }
    return conversation
  }

  /** Add the newest progress of the calls that run, which only the events contain. */
  private async withProgressSoFar(conversation: Conversation): Promise<Conversation> {
    const turn = openTurn(conversation)
    const runs = conversation.messages.some(
      (message) => message.turn_id === turn?.id && message.tool_calls.some((call) => call.status === 'pending' || call.status === 'approved'),
    )
    if (turn === null || !runs) return conversation
    const events = await this.range(Math.max(0, conversation.seq - PROGRESS_BACK), conversation.seq)
    return events.reduce(progressed, conversation)
  }

  /** The events after one sequence number up to another, or up to now. */
  private async range(after: number, until = Infinity): Promise<Envelope[]> {
    const events: Envelope[] = []
    let from = after
    while (from < until) {
      const page = await this.api.events(this.sessionId, from)
      events.push(...page.items)
      if (page.next_cursor === null || page.items.length === 0) break
      from = Number(page.next_cursor)
    }
    return events
  }

  private heard(event: Envelope): void {
    if (event.session_id !== this.sessionId || this.closed) return
    const conversation = this.conversation
    if (conversation !== null && event.seq <= conversation.seq) return
    this.early.set(event.seq, event)
    this.drain()
    // Events of two senders may arrive out of order, so only those that stay missing are requested.
    if (this.early.size > 0) this.catchUpSoon(REORDER_MS)
  }

  /** Apply the waiting events that are next in order. */
  private drain(): void {
    let conversation = this.conversation
    if (conversation === null) return
    const before = conversation
    for (const seq of [...this.early.keys()].sort((one, other) => one - other)) {
      if (seq > conversation.seq + 1) break
      const event = this.early.get(seq)
      this.early.delete(seq)
      if (event !== undefined) conversation = apply(conversation, event)
    }
    if (conversation !== before) this.show(conversation)
    // Another branch became active: its messages are not in the events.
    if (conversation.session.active_branch !== before.session.active_branch) void this.reload()
  }

  private connection(state: LiveState): void {
    if (this.isRefused) return
    if (state === 'live') this.catchUpSoon(0)
    this.scheduleCheck()
  }

  private catchUpSoon(pauseMs: number): void {
    if (this.catchUpTimer !== null || this.closed) return
    this.catchUpTimer = setTimeout(() => {
      this.catchUpTimer = null
      void this.queue(() => this.catchUp())
    }, pauseMs)
  }

  /** Read the events after `seq` up to now. */
  private async catchUp(): Promise<void> {
    try {
      for (;;) {
        const conversation = this.conversation
        if (conversation === null) return this.isRefused ? undefined : await this.open()
        const page = await this.api.events(this.sessionId, conversation.seq)
        if (page.gap) {
          // The event log is down or has lost events: read the store again, and go on with the events heard so far.
          const heard = [...this.early.keys()]
          const next = heard.length > 0 ? Math.min(...heard) - 1 : 0
          const seq = Math.max(conversation.seq, page.last_seq, next)
          this.state = { phase: 'ready', conversation: { ...conversation, seq, messages: conversation.messages.map(doubted) } }
          return await this.load()
        }
        for (const event of page.items) this.early.set(event.seq, event)
        this.drain()
        if (page.next_cursor === null) break
      }
      await this.settle()
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (error.status === 404) this.tell({ phase: 'failed', error })
      else this.catchUpSoon(POLL_MS)
    }
  }

  /** Read ended messages of which a part was missed from the store. */
  private async settle(): Promise<void> {
    const conversation = this.conversation
    if (conversation === null) return
    for (const id of unsettled(conversation)) {
      const message = await this.api.get<Message>(`${this.path}/messages/${id}`)
      if (this.conversation !== null) this.show(withStored(this.conversation, [message]))
    }
  }

  private scheduleCheck(): void {
    if (this.checkTimer !== null) clearTimeout(this.checkTimer)
    if (this.closed || this.isRefused) return
    const conversation = this.conversation
    const isOpen = conversation !== null && openTurn(conversation) !== null
    const pause = this.live.current === 'live' ? (isOpen ? CHECK_MS : CHECK_MS * 4) : POLL_MS
    this.checkTimer = setTimeout(() => {
      void this.queue(() => this.catchUp()).then(() => this.scheduleCheck())
    }, pause)
  }

  /** Run work one at a time, since two concurrent readers would apply events out of order. */
  private queue(work: () => Promise<void>): Promise<void> {
    this.work = this.work.then(() => (this.closed ? undefined : work()))
    return this.work
  }

  private show(conversation: Conversation): void {
    this.tell({ phase: 'ready', conversation })
    if (unsettled(conversation).length > 0) this.catchUpSoon(REORDER_MS)
  }

  private tell(state: FeedState): void {
    if (this.closed) return
    this.state = state
    for (const listener of this.listeners) listener(state)
  }
}

function turnsById(turns: readonly Turn[]): Conversation['turns'] {
  return Object.fromEntries(turns.map((turn) => [turn.id, turnFromStore(turn)]))
}

/** Of turns that are open; those of others are over. */
function questionsByCall(turns: readonly Turn[]): Conversation['questions'] {
  return Object.fromEntries(turns.flatMap(({ waits }) => (waits ?? []).map((wait) => [wait.tool_call_id, wait])))
}

function approvalsByCall(approvals: readonly Approval[]): Conversation['approvals'] {
  return Object.fromEntries(approvals.map((approval) => [approval.tool_call_id, approval]))
}

function frameType(event: Envelope): string {
  return String((event.data['frame'] as { type?: string } | undefined)?.type ?? '')
}

function doubted<T extends Conversation['messages'][number]>(message: T): T {
  return isOver(message.status) || message.role === 'user' ? message : { ...message, incomplete: true, nextIndex: null, nextReasoning: null }
}
