// The state of a session, as a pure function of the loaded data and the events since.
//
// Invariants: an event is applied once and in order of `seq`. The text of a message is that of its newest attempt.
// A message that the events do not fully describe is marked `incomplete`; SessionFeed then reads it from the store.

import type { Approval, Envelope, FinishReason, Json, Message, Session, ToolCall, ToolWait, Turn, Usage } from './models.js'
import { anyWaits, withTold, type Subagents } from './subagents.js'

export interface MessageView extends Omit<Message, 'tool_calls'> {
  tool_calls: ToolCall[]
  /** Attempt number of the shown text; 0 when the text came from the store. */
  attempt: number
  /** Index of the next `content_delta`; null while frames are ignored. */
  nextIndex: number | null
  /** Index of the next `reasoning_delta`, which is counted separately. */
  nextReasoning: number | null
  /** A part of it was missed: its text must be read from the store once it has ended. */
  incomplete: boolean
}

export interface TurnView {
  id: string
  status: Turn['status']
  usage: Usage
  steps: number
  error: { code: string; detail: string } | null
  started_at: string | null
  ended_at: string | null
  message_id: string | null
  /** How its last answer ended. */
  finish_reason: FinishReason | null
  /** It waits for a place to ask its model or to run a tool, and has for long. */
  waits?: boolean
}

export interface Progress {
  text: string
  /** From 0 to 1. */
  fraction: number | null
}

export interface Conversation {
  session: Session
  /** Sequence number of the last applied event. */
  seq: number
  /** In the order of the conversation. */
  messages: MessageView[]
  turns: Record<string, TurnView>
  /** By tool call id. */
  approvals: Record<string, Approval>
  /** What calls that have begun ask their user, by tool call id. */
  questions: Record<string, ToolWait>
  /** The newest progress of tool calls that run, by tool call id. */
  progress: Record<string, Progress>
  /** Agents that tool calls asked, by tool call id. */
  subagents: Subagents
  /** Whether there are older messages to load. */
  hasOlder: boolean
}

/** Fields of an answer that a service of an earlier version leaves out. */
const SAYS_NO_MORE = { author: null, finish_reason: null, reasoning: null, output: null, left_out: null } as const
const NOTHING_USED: Usage = { input_tokens: 0, output_tokens: 0, cached_input_tokens: 0, reasoning_tokens: 0, cost_usd: null }
/** An answer to a schema is a JSON object, which some models put into a Markdown code block. */
const MAY_BE_OUTPUT = /^\s*(?:```(?:json)?\s*)?\{/

const CALL_ENDED: ReadonlySet<string> = new Set(['completed', 'failed', 'rejected'])
const ENDED: ReadonlySet<string> = new Set(['completed', 'failed', 'cancelled'])

export function isOver(status: string): boolean {
  return ENDED.has(status)
}

export function fromStore(message: Message): MessageView {
  const isOpen = message.status === 'streaming'
  return {
    ...SAYS_NO_MORE,
    ...message,
    attachments: message.attachments ?? [],
    tool_calls: message.tool_calls ?? [],
    attempt: 0,
    nextIndex: null,
    nextReasoning: null,
    // Only the events have its text so far.
    incomplete: isOpen,
  }
}

export function turnFromStore(turn: Turn): TurnView {
  const { id, status, usage, steps, error, started_at, ended_at, message_id, finish_reason } = turn
  return { id, status, usage, steps, error: error ?? null, started_at, ended_at, message_id, finish_reason: finish_reason ?? null }
}

/** The turn that has not ended; the newest if there are several. */
export function openTurn(conversation: Conversation): TurnView | null {
  const open = Object.values(conversation.turns).filter((turn) => !isOver(turn.status))
  return open.find((turn) => turn.status !== 'queued') ?? open[0] ?? null
}

/** Ended messages of which a part was missed. */
export function unsettled(conversation: Conversation): string[] {
  return conversation.messages
    .filter((message) => message.incomplete && message.status !== 'streaming')
    .map((message) => message.id)
}

/** Merge messages from the store, which is authoritative for ended messages. */
export function withStored(conversation: Conversation, stored: readonly Message[]): Conversation {
  const messages = new Map(conversation.messages.map((message) => [message.id, message]))
  for (const message of stored) {
    const known = messages.get(message.id)
    if (known !== undefined && message.status === 'streaming') continue
    messages.set(message.id, fromStore(message))
  }
  return { ...conversation, messages: [...messages.values()].sort(inConversation) }
}

/**
 * The order of the conversation: by turn, within it by time. A queued message is older than the answers that it comes after. One
 * that joined a turn stands behind the answer that it names.
 */
function inConversation(one: MessageView, other: MessageView): number {
  return (
    compared(one.turn_id ?? one.id, other.turn_id ?? other.id) ||
    compared(isSaidFirst(other), isSaidFirst(one)) ||
    compared(one.joined_after ?? one.id, other.joined_after ?? other.id) ||
    compared(one.joined === true, other.joined === true) ||
    compared(one.id, other.id)
  )
}

/** Before the first answer of its turn. */
function isSaidFirst({ role, joined, joined_after }: MessageView): boolean {
  return role === 'user' && (joined !== true || joined_after == null)
}

// Ids are UUIDv7, so they sort by creation time.
function compared<T extends string | boolean>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0
}

/** The conversation after an event. Events at or below `seq` change nothing. */
export function apply(conversation: Conversation, event: Envelope): Conversation {
  if (event.seq <= conversation.seq) return conversation
  return { ...changed(conversation, event), seq: event.seq }
}

function changed(state: Conversation, event: Envelope): Conversation {
  const { data } = event
  switch (event.type) {
    case 'session.created':
    case 'session.activated':
    case 'session.suspended':
    case 'session.ended':
      return { ...state, session: data['session'] as Session }
    case 'session.handed_over':
      return data['for_session'] === true ? { ...state, session: { ...state.session, agent_id: String(data['agent_id']) } } : state
    case 'message.created':
      return created(state, event)
    case 'message.updated':
      return onMessage(state, String(data['id']), (message) => updated(message, data as Partial<Message>))
    case 'stream.started':
      return onTurn(state, event, (turn) => ({ ...turn, status: 'running', started_at: turn.started_at ?? event.at }))
    case 'stream.chunk':
      return framed(state, event)
    case 'stream.ended':
      return onTurn(state, event, (turn) => ({
        ...turn,
        status: data['status'] as Turn['status'],
        usage: (data['usage'] as Usage | undefined) ?? turn.usage,
        steps: Number(data['steps'] ?? turn.steps),
        finish_reason: (data['finish_reason'] as FinishReason | null | undefined) ?? turn.finish_reason,
        ended_at: event.at,
      }))
    case 'error.occurred':
      return onTurn(state, event, (turn) => ({
        ...turn,
        error: { code: String(data['code'] ?? 'INTERNAL_ERROR'), detail: String(data['detail'] ?? '') },
      }))
    case 'tool_call.progress':
      return progressed(state, event)
    case 'tool_call.waiting':
    case 'tool_call.answered':
      return asked(state, event)
    case 'tool_call.pending':
    case 'tool_call.approved':
    case 'tool_call.rejected':
    case 'tool_call.completed':
    case 'tool_call.failed':
      return called(state, event)
    default:
      // A newer service may send events that this client does not know.
      return state
  }
}

function created(state: Conversation, event: Envelope): Conversation {
  const given = event.data as Partial<Message> & { id: string; role: Message['role'] }
  if (state.messages.some((message) => message.id === given.id)) return state
  const isStreaming = given.status === 'streaming'
  const message: MessageView = {
    ...SAYS_NO_MORE,
    session_id: state.session.id,
    turn_id: event.turn_id ?? null,
    content: '',
    attachments: [],
    tool_calls: [],
    tool_call_id: null,
    status: 'completed',
    created_at: event.at,
    ...given,
    attempt: 0,
    nextIndex: null,
    nextReasoning: null,
    incomplete: isStreaming,
  } as MessageView
  const next = { ...state, messages: [...state.messages, message].sort(inConversation) }
  if (given.role !== 'user' || given.joined === true || event.turn_id === undefined) return next
  return onTurn(next, event, (turn) => ({ ...turn, message_id: given.id }))
}

/** Only the event's own fields: the event of a left-out message does not contain its status. */
function updated(message: MessageView, told: Partial<Message>): MessageView {
  const { status = message.status, finish_reason = message.finish_reason, left_out = message.left_out } = told
  // The events have the text only; the parsed JSON is in the store.
  const mayHaveOutput = message.attempt > 0 && status === 'completed' && finish_reason === 'stop' && MAY_BE_OUTPUT.test(message.content)
  return { ...message, status, finish_reason, left_out, incomplete: message.incomplete || mayHaveOutput }
}

function framed(state: Conversation, event: Envelope): Conversation {
  const frame = event.data['frame'] as { type: string } & Record<string, unknown>
  const id = event.message_id ?? String(frame['message_id'] ?? '')
  switch (frame.type) {
    case 'waiting':
      return onTurn(state, event, (turn) => ({ ...turn, waits: true }))
    case 'subagent': {
      const next = { ...state, subagents: withTold(state.subagents, frame) }
      return onTurn(next, event, (turn) => (isOver(turn.status) ? turn : { ...turn, status: waitingFor(next, turn.id) }))
    }
    case 'message_start': {
      const waits = event.turn_id !== undefined && state.turns[event.turn_id]?.waits === true
      const goesOn = waits ? onTurn(state, event, (turn) => ({ ...turn, waits: false })) : state
      return onMessage(announced(goesOn, event, id), id, (message) => begun(message, Number(frame['attempt'])))
    }
    case 'content_delta':
      return onMessage(state, id, (message) => extended(message, Number(frame['index']), String(frame['text'])))
    case 'reasoning_delta':
      return onMessage(state, id, (message) => reasoned(message, Number(frame['index']), String(frame['text'])))
    case 'tool_call':
      return onMessage(state, id, (message) => {
        const callId = String(frame['id'])
        if (message.nextIndex === null || message.tool_calls.some((call) => call.id === callId)) return message
        const call: ToolCall = {
          id: callId,
          message_id: message.id,
          name: String(frame['name']),
          arguments: frame['arguments'] as ToolCall['arguments'],
          decided_arguments: null,
          status: 'pending',
          result: null,
          is_client: frame['is_client'] === true,
        }
        return { ...message, tool_calls: [...message.tool_calls, call] }
      })
    default:
      return state
  }
}

/** Add a message whose creation event is missing, as after a crash before it was sent. */
function announced(state: Conversation, event: Envelope, id: string): Conversation {
  const turn = event.turn_id === undefined ? undefined : state.turns[event.turn_id]
  if (turn === undefined || isOver(turn.status) || state.messages.some((message) => message.id === id)) return state
  const next = created(state, { ...event, data: { id, role: 'assistant', status: 'streaming' } })
  return onTurn(next, event, (open) => (open.status === 'queued' ? { ...open, status: 'running', started_at: open.started_at ?? event.at } : open))
}

/** Ignores all further frames of a message. */
const PASSED_OVER = { nextIndex: null, nextReasoning: null } as const

function begun(message: MessageView, attempt: number): MessageView {
  // An ended message is not written again: this is a repeated event.
  if (message.status !== 'streaming' && !message.incomplete) return message
  if (attempt < message.attempt) return { ...message, ...PASSED_OVER }
  return { ...message, attempt, content: '', reasoning: null, tool_calls: [], nextIndex: 0, nextReasoning: 0, incomplete: false }
}

function extended(message: MessageView, index: number, text: string): MessageView {
  if (message.nextIndex === null) return message
  if (index !== message.nextIndex) return { ...message, ...PASSED_OVER, incomplete: true }
  return { ...message, content: message.content + text, nextIndex: index + 1 }
}

function reasoned(message: MessageView, index: number, text: string): MessageView {
  if (message.nextReasoning === null) return message
  if (index !== message.nextReasoning) return { ...message, ...PASSED_OVER, incomplete: true }
  return { ...message, reasoning: (message.reasoning ?? '') + text, nextReasoning: index + 1 }
}

/** The conversation with what an event tells of a call that has not ended. Other events change nothing. */
export function progressed(state: Conversation, event: Envelope): Conversation {
  if (event.type !== 'tool_call.progress') return state
  const { tool_call, text, fraction } = event.data as { tool_call: { id: string }; text: string; fraction: number | null }
  const isOpen = state.messages.some((message) => message.tool_calls.some((call) => call.id === tool_call.id && !CALL_ENDED.has(call.status)))
  return isOpen ? { ...state, progress: { ...state.progress, [tool_call.id]: { text, fraction } } } : state
}

function without<T>(values: Record<string, T>, callId: string): Record<string, T> {
  if (values[callId] === undefined) return values
  const { [callId]: _ended, ...others } = values
  return others
}

function called(state: Conversation, event: Envelope): Conversation {
  const approval = event.data['approval'] as Approval | undefined
  const told = event.data['tool_call'] as Partial<ToolCall> | undefined
  const callId = told?.id ?? String(event.data['tool_call_id'] ?? approval?.tool_call_id ?? '')
  const kind = event.type.slice('tool_call.'.length) as ToolCall['status']
  let next: Conversation = {
    ...state,
    progress: CALL_ENDED.has(kind) ? without(state.progress, callId) : state.progress,
    questions: CALL_ENDED.has(kind) ? without(state.questions, callId) : state.questions,
    messages: state.messages.map((message) => {
      if (!message.tool_calls.some((call) => call.id === callId)) return message
      const calls = message.tool_calls.map((call) =>
        call.id === callId
          ? {
              ...call,
              status: kind,
              result: (told?.result as Json) ?? call.result ?? null,
              decided_arguments: approval?.decided_arguments ?? call.decided_arguments ?? null,
            }
          : call,
      )
      return { ...message, tool_calls: calls as ToolCall[] }
    }),
  }
  if (approval !== undefined) next = { ...next, approvals: { ...next.approvals, [callId]: approval } }
  else if (kind === 'rejected') next = { ...next, approvals: timedOut(next.approvals, callId) }
  return onTurn(next, event, (turn) => (isOver(turn.status) ? turn : { ...turn, status: waitingFor(next, turn.id) }))
}

/** A call that has begun asks its user something, or that is over. */
function asked(state: Conversation, event: Envelope): Conversation {
  const wait = event.data['wait'] as ToolWait
  const next = { ...state, questions: { ...state.questions, [wait.tool_call_id]: wait } }
  return onTurn(next, event, (turn) => (isOver(turn.status) ? turn : { ...turn, status: waitingFor(next, turn.id) }))
}

function timedOut(approvals: Record<string, Approval>, callId: string): Record<string, Approval> {
  const known = approvals[callId]
  return known === undefined ? approvals : { ...approvals, [callId]: { ...known, status: 'timed_out' } }
}

function waitingFor(state: Conversation, turnId: string): 'waiting_approval' | 'waiting_input' | 'running' {
  if (Object.values(state.approvals).some((other) => other.turn_id === turnId && other.status === 'pending')) return 'waiting_approval'
  const calls = state.messages.filter(({ turn_id }) => turn_id === turnId).flatMap(({ tool_calls }) => tool_calls)
  if (anyWaits(state.subagents, calls.map(({ id }) => id))) return 'waiting_approval'
  return calls.some(({ id }) => state.questions[id]?.status === 'pending') ? 'waiting_input' : 'running'
}

function onMessage(state: Conversation, id: string, change: (message: MessageView) => MessageView): Conversation {
  // Search from the end, since it is nearly always the last one.
  for (let index = state.messages.length - 1; index >= 0; index--) {
    const message = state.messages[index]
    if (message === undefined || message.id !== id) continue
    const next = change(message)
    if (next === message) return state
    const messages = state.messages.slice()
    messages[index] = next
    return { ...state, messages }
  }
  return state
}

function onTurn(state: Conversation, event: Envelope, change: (turn: TurnView) => TurnView): Conversation {
  if (event.turn_id === undefined) return state
  const known = state.turns[event.turn_id] ?? {
    id: event.turn_id,
    status: 'queued' as const,
    usage: NOTHING_USED,
    steps: 0,
    error: null,
    started_at: null,
    ended_at: null,
    message_id: null,
    finish_reason: null,
  }
  return { ...state, turns: { ...state.turns, [event.turn_id]: change(known) } }
}
