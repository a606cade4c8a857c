// The timeline of a turn, read from its events: model calls, tool runs, waits for approvals.

import type { Approval, Envelope, FinishReason, Message, Turn } from '../../client'
import { endingWords } from '../endings'
import { money, tokenWords, type Used } from './usage'

export interface Segment {
  kind: 'model' | 'tool' | 'wait'
  name: string
  from: number
  to: number
  note: string
}

export interface Timeline {
  from: number
  to: number
  segments: Segment[]
  /** The turn's events are no longer kept, so the times are those of the stored messages. */
  isCoarse: boolean
}

interface Open {
  name: string
  from: number
  note: string
}

/** The fields of a frame that are used here. */
interface Frame {
  type?: string
  attempt?: number
  id?: string
  name?: string
  finish_reason?: FinishReason | null
  usage?: Used | null
}

/** approvals: the turn's approvals. */
export function timelineOf(turn: Turn, messages: readonly Message[], approvals: readonly Approval[], events: readonly Envelope[], now: number): Timeline {
  const own = events.filter((event) => event.turn_id === turn.id)
  const start = Date.parse(turn.started_at ?? turn.created_at)
  const end = turn.ended_at === null ? now : Date.parse(turn.ended_at)
  const isCoarse = !own.some(({ type }) => type === 'stream.started')
  const segments = isCoarse ? fromStored(turn, messages, end) : fromEvents(own, end)
  for (const approval of approvals) {
    const until = approval.decided_at ?? (approval.status === 'pending' ? null : approval.expires_at)
    segments.push({
      kind: 'wait',
      name: approval.tool,
      from: Date.parse(approval.requested_at),
      to: until === null ? end : Math.min(end, Date.parse(until)),
      note: approval.decided_by == null ? approval.status.replace('_', ' ') : `${approval.status} by ${approval.decided_by}`,
    })
  }
  segments.sort((one, other) => one.from - other.from)
  const from = Math.min(start, ...segments.map((segment) => segment.from))
  return { from, to: Math.max(end, from + 1, ...segments.map((segment) => segment.to)), segments, isCoarse }
}

/** Largest share of the picture for one wait. */
const LONGEST_WAIT = 0.35
/** Shorter waits are drawn to scale. */
const SHORT_MS = 5_000

/** The position of a time in the picture (0 to 1): to scale, except that long waits for people are shortened. */
export function scaleOf({ from, to, segments }: Timeline): { place: (at: number) => number; isShortened: boolean } {
  const edges = [...new Set([from, to, ...segments.flatMap((segment) => [segment.from, segment.to])])].sort((one, other) => one - other)
  const works = (start: number, end: number): boolean =>
    segments.some((segment) => segment.kind !== 'wait' && segment.from < end && segment.to > start)
  const parts = edges.slice(1).map((end, index) => ({ start: edges[index] ?? from, end, length: end - (edges[index] ?? from) }))
  const busy = parts.filter(({ start, end }) => works(start, end)).reduce((sum, { length }) => sum + length, 0)
  const most = busy === 0 ? Infinity : (busy * LONGEST_WAIT) / (1 - LONGEST_WAIT)
  const drawn = parts.map((part) => ({ ...part, drawn: works(part.start, part.end) || part.length <= SHORT_MS ? part.length : Math.min(part.length, most) }))
  const whole = drawn.reduce((sum, part) => sum + part.drawn, 0) || 1
  return {
    isShortened: drawn.some((part) => part.drawn < part.length),
    place: (at) => {
      let before = 0
      for (const part of drawn) {
        if (at >= part.end) before += part.drawn
        else return (before + (Math.max(0, at - part.start) / part.length) * part.drawn) / whole
      }
      return 1
    },
  }
}

function fromEvents(events: readonly Envelope[], end: number): Segment[] {
  const segments: Segment[] = []
  const writing = new Map<string, Open>()
  const called = new Map<string, Open>()
  let steps = 0
  for (const event of events) {
    const at = Date.parse(event.at)
    const frame = (event.data['frame'] ?? {}) as Frame
    const messageId = event.message_id ?? ''
    if (frame.type === 'message_start') {
      if (!writing.has(messageId)) steps += 1
      const again = (frame.attempt ?? 1) > 1 ? `attempt ${frame.attempt}` : ''
      writing.set(messageId, { name: `model, step ${steps}`, from: writing.get(messageId)?.from ?? at, note: again })
    } else if (frame.type === 'message_end') {
      const open = writing.get(messageId)
      if (open !== undefined) segments.push({ kind: 'model', ...open, to: at, note: noteOf(open.note, frame) })
      writing.delete(messageId)
    } else if (frame.type === 'tool_call' && frame.id !== undefined) {
      called.set(frame.id, { name: frame.name ?? 'tool', from: at, note: '' })
    } else if (event.type === 'tool_call.approved') {
      const open = called.get(String(event.data['tool_call_id']))
      // The tool runs from here on; before, the call waited.
      if (open !== undefined) open.from = at
    } else if (event.type === 'tool_call.completed' || event.type === 'tool_call.failed') {
      const told = event.data['tool_call'] as { id?: string; status?: string } | undefined
      const open = called.get(told?.id ?? '')
      if (open !== undefined) segments.push({ kind: 'tool', ...open, to: at, note: told?.status ?? '' })
      called.delete(told?.id ?? '')
    } else if (event.type === 'tool_call.pending' || event.type === 'tool_call.rejected') {
      if (event.type === 'tool_call.rejected') called.delete(String(event.data['tool_call_id'] ?? ''))
    }
  }
  for (const open of writing.values()) segments.push({ kind: 'model', ...open, to: end })
  return segments
}

/** Retries, usage, cost and finish reason of a model step. */
function noteOf(attempt: string, { usage, finish_reason = null }: Frame): string {
  const notes = [attempt, endingWords(finish_reason)]
  if (usage != null) notes.push(...tokenWords(usage), usage.cost_usd == null ? null : money(usage.cost_usd))
  return notes.filter((note) => note !== null && note !== '').join(', ')
}

function fromStored(turn: Turn, messages: readonly Message[], end: number): Segment[] {
  const own = messages.filter(({ turn_id, role }) => turn_id === turn.id && role !== 'user')
  return own.map((message, place) => ({
    kind: message.role === 'tool' ? ('tool' as const) : ('model' as const),
    name: message.role === 'tool' ? 'tool' : 'model',
    from: Date.parse(message.created_at),
    to: Date.parse(own[place + 1]?.created_at ?? new Date(end).toISOString()),
    note: message.status,
  }))
}
