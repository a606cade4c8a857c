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

/** How long a shortened part is drawn, as a share of all shorter ones together. */
const SHORTENED = 0.5
/** A part is shortened if it is this many times longer than all shorter ones together: beside it they would be lines. */
const TOO_LONG = 10
/** What is shorter is drawn to scale in any case. */
const SHORT_MS = 5_000

export interface Scale {
  /** The position of a time in the picture, from 0 to 1. */
  place: (at: number) => number
  /** Parts of the picture that are not to scale, as times. */
  breaks: { from: number; to: number }[]
}

/** To scale, except for parts in which nearly all of the time passes: an axis with breaks. */
export function scaleOf({ from, to, segments }: Timeline): Scale {
  const edges = [...new Set([from, to, ...segments.flatMap((segment) => [segment.from, segment.to])])].sort((one, other) => one - other)
  const parts = edges.slice(1).map((end, index) => ({ start: edges[index] ?? from, end, drawn: end - (edges[index] ?? from), isShortened: false }))
  let shorter = 0
  for (const part of [...parts].sort((one, other) => one.drawn - other.drawn)) {
    if (part.drawn > SHORT_MS && shorter > 0 && part.drawn > TOO_LONG * shorter) {
      part.drawn = shorter * SHORTENED
      part.isShortened = true
    }
    shorter += part.drawn
  }
  const whole = shorter || 1
  return {
    breaks: parts.filter(({ isShortened }) => isShortened).map(({ start, end }) => ({ from: start, to: end })),
    place: (at) => {
      let before = 0
      for (const part of parts) {
        if (at >= part.end) before += part.drawn
        else return (before + (Math.max(0, at - part.start) / (part.end - part.start)) * part.drawn) / whole
      }
      return 1
    },
  }
}

function fromEvents(events: readonly Envelope[], end: number): Segment[] {
  const segments: Segment[] = []
  const writing = new Map<string, Open>()
  const called = new Map<string, Open>()
  const asked = new Map<string, Open>()
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
    } else if (event.type === 'tool_call.waiting') {
      const wait = event.data['wait'] as { tool_call_id: string; tool: string; kind: string }
      asked.set(wait.tool_call_id, { name: wait.tool, from: at, note: wait.kind === 'result' ? 'its result' : 'an answer' })
    } else if (event.type === 'tool_call.answered') {
      const wait = event.data['wait'] as { tool_call_id: string; status: string }
      const open = asked.get(wait.tool_call_id)
      if (open !== undefined) segments.push({ kind: 'wait', ...open, to: at, note: `${open.note}: ${wait.status.replace('_', ' ')}` })
      asked.delete(wait.tool_call_id)
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
  for (const open of asked.values()) segments.push({ kind: 'wait', ...open, to: end })
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
