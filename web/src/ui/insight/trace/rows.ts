// A turn as a tree of what happened in it: steps of the model with their attempts, the calls that each made, and what these
// waited for or asked. Pure functions of what the API tells.

import type { Approval, Envelope, FinishReason, Message, Session, ToolCall, ToolWait, Turn } from '../../../client'
import { endingWords } from '../../endings'
import type { Used } from '../usage'

/** What was read of a turn, and of the turns of the agents that its calls asked. */
export interface Facts {
  turn: Turn
  session: Session
  /** The message that it answers; null: it may not be read. */
  question: Message | null
  /** Its own answers and results, in their order. */
  messages: readonly Message[]
  approvals: readonly Approval[]
  events: readonly Envelope[]
  /** By the call that asked. */
  below: ReadonlyMap<string, Below>
}

export type Below = { agentId: string; sessionId: string; turnId: string; background?: boolean } & ({ facts: Facts } | { problem: string })

export interface Attempt {
  number: number
  from: number
  to: number
}

/** What the details of a row are made of. */
export type About =
  | { kind: 'turn'; facts: Facts; agents: readonly Answering[] }
  | { kind: 'unread'; below: Below; problem: string }
  | { kind: 'queue'; words: string }
  | { kind: 'model'; by: Answering; message: Message | null; read: readonly Message[]; attempts: readonly Attempt[]; firstAt: number | null; ending: string | null }
  | { kind: 'attempt'; attempt: Attempt; isLast: boolean }
  | { kind: 'tool'; call: ToolCall; ranFor: number | null }
  | { kind: 'approval'; approval: Approval }
  | { kind: 'wait'; wait: ToolWait }

/** Who answered in a step: null where it is not known any more. */
export interface Answering {
  agentId: string | null
  version: number | null
  model: string | null
}

export interface Row {
  /** Of the thing that it shows: it is in the address of the row. */
  id: string
  name: string
  from: number
  to: number
  status: string
  note: string
  usage: Used | null
  about: About
  children: Row[]
}

export interface Trace {
  root: Row
  /** Events of the turn, or of one below it, are no longer kept: those times are of the stored messages. */
  isCoarse: boolean
}

/** What the events tell of one step of the model. */
interface Step {
  attempts: { number: number; from: number }[]
  firstAt: number | null
  to: number | null
  finish: FinishReason | null
  usage: Used | null
}

interface Told {
  steps: Map<string, Step>
  calls: Map<string, { from: number; messageId: string; name: string; arguments: ToolCall['arguments']; allowedAt: number | null; to: number | null; status: string | null; result: unknown }>
  waits: Map<string, ToolWait>
  queues: { lane: string; from: number; to: number | null }[]
  isCoarse: boolean
}

/** The fields of a frame that are used here. */
interface Frame {
  type?: string
  attempt?: number
  id?: string
  name?: string
  arguments?: ToolCall['arguments']
  finish_reason?: FinishReason | null
  usage?: Used | null
  lane?: string
  seconds?: number
}

export function traceOf(facts: Facts, now: number): Trace {
  const coarse = { found: false }
  return { root: turnRow(facts, now, null, coarse), isCoarse: coarse.found }
}

function turnRow(facts: Facts, now: number, agentId: string | null, coarse: { found: boolean }): Row {
  const { turn } = facts
  const end = turn.ended_at === null ? now : Date.parse(turn.ended_at)
  const told = toldBy(facts.events.filter((event) => event.turn_id === turn.id))
  if (told.isCoarse) coarse.found = true
  const agents = agentsOf(turn, agentId ?? facts.session.agent_id)
  const children = [...queued(turn, now), ...placesOf(told, end), ...stepsOf(facts, told, end, now, coarse)].sort((one, other) => one.from - other.from)
  const from = Math.min(Date.parse(turn.created_at), ...children.map((row) => row.from))
  return {
    id: turn.id,
    name: agentId ?? 'Turn',
    from,
    to: Math.max(end, from + 1, ...children.map(latest)),
    status: turn.status,
    note: [agents.map((one) => answeringWords(one.agentId === agentId ? { ...one, agentId: null } : one)).filter(Boolean).join(', then '), endingWords(turn.finish_reason) ?? ''].filter(Boolean).join(', '),
    usage: turn.usage,
    about: { kind: 'turn', facts, agents },
    children,
  }
}

/** The agents of a turn in their order; a service of an earlier version tells of none but the newest. */
export function agentsOf(turn: Turn, asked: string | null): Answering[] {
  const before = (turn.agents_before ?? []).map(({ agent_id, agent_version, model }) => ({ agentId: agent_id, version: agent_version ?? null, model: model ?? null }))
  return [...before, { agentId: turn.agent_id ?? asked, version: turn.agent_version ?? null, model: turn.model ?? null }]
}

function answeredBy(turn: Turn, asked: string | null, message: Message | null, step: number): Answering {
  const place = (turn.agents_before ?? []).findIndex(({ last_step }) => step <= last_step)
  const agents = agentsOf(turn, asked)
  const by = agents.at(place < 0 ? -1 : place)!
  // What is stored with the message is right, whatever the steps say.
  const own = message?.agent_id ?? null
  return own === null || own === by.agentId ? by : (agents.find(({ agentId }) => agentId === own) ?? { agentId: own, version: null, model: null })
}

/** `helper, version 3, gpt-5`: as far as it is known. */
export function answeringWords({ agentId, version, model }: Answering): string {
  const named = version === null ? '' : version === 0 ? 'a draft' : `version ${version}`
  return [agentId ?? '', named, model ?? ''].filter((part) => part !== '').join(', ')
}

/** A turn that waited for the one before it. What is shorter is the way to the first step. */
const QUEUED_MS = 1_000

function queued(turn: Turn, now: number): Row[] {
  const from = Date.parse(turn.created_at)
  const to = turn.started_at === null ? now : Date.parse(turn.started_at)
  if (to - from < QUEUED_MS) return []
  return [row({ id: `${turn.id}-queued`, name: 'queued', from, to, status: 'queued', about: { kind: 'queue', words: 'It waited for its orchestration, or for the turn before it.' } })]
}

function placesOf(told: Told, end: number): Row[] {
  return told.queues.map(({ lane, from, to }, place) =>
    row({ id: `place-${place + 1}`, name: `waited for a place (${lane})`, from, to: to ?? end, status: 'queued', about: { kind: 'queue', words: 'As many of this kind were running as may run at once.' } }),
  )
}

function stepsOf(facts: Facts, told: Told, end: number, now: number, coarse: { found: boolean }): Row[] {
  const answers = facts.messages.filter(({ role }) => role === 'assistant')
  const stored = new Map(answers.map((message) => [message.id, message]))
  const ids = [...new Set([...answers.map(({ id }) => id), ...told.steps.keys()])]
  const calls = new Map(facts.turn.tool_calls.map((call) => [call.id, call]))
  for (const call of answers.flatMap(({ tool_calls }) => tool_calls)) calls.set(call.id, call)
  for (const [id, { name, arguments: given, messageId, status, result }] of told.calls) {
    if (!calls.has(id)) calls.set(id, { id, name, arguments: given, decided_arguments: null, message_id: messageId, status: (status ?? 'pending') as ToolCall['status'], result, is_client: false })
  }
  return ids.map((id, place) => {
    const message = stored.get(id) ?? null
    const own = [...calls.values()].filter((call) => call.message_id === id)
    const step = told.steps.get(id)
    const next = ids[place + 1]
    const [from, to] = step === undefined ? storedTimes(facts, message, own, next === undefined ? null : (stored.get(next) ?? null), end) : [step.attempts[0]?.from ?? end, step.to ?? end]
    const attempts = (step?.attempts ?? []).map(({ number, from: began }, index, all) => ({ number, from: began, to: all[index + 1]?.from ?? to }))
    const by = answeredBy(facts.turn, facts.session.agent_id, message, place + 1)
    const ending = endingWords(step?.finish ?? message?.finish_reason ?? null)
    const again = attempts.length < 2 ? [] : attempts.map((attempt, index) => row({ id: `${id}-${attempt.number}`, name: `attempt ${attempt.number}`, from: attempt.from, to: attempt.to, status: index < attempts.length - 1 ? 'failed' : (message?.status ?? ''), about: { kind: 'attempt', attempt, isLast: index === attempts.length - 1 } }))
    return row({
      id,
      name: `model, step ${place + 1}`,
      from,
      to,
      status: message?.status ?? (step?.to == null ? 'streaming' : 'completed'),
      note: [(facts.turn.agents_before ?? []).length > 0 ? answeringWords(by) : '', attempts.length > 1 ? `attempt ${attempts.at(-1)?.number}` : '', ending ?? ''].filter(Boolean).join(', '),
      usage: step?.usage ?? null,
      about: { kind: 'model', by, message, read: facts.messages.slice(0, message === null ? facts.messages.length : facts.messages.indexOf(message)), attempts, firstAt: step?.firstAt ?? null, ending },
      children: [...again, ...own.map((call) => callRow(facts, told, call, to, end, now, coarse))],
    })
  })
}

/** Of a step whose events are gone: until the first thing that is known to have come after it. */
function storedTimes({ messages, approvals }: Facts, message: Message | null, calls: readonly ToolCall[], next: Message | null, end: number): [number, number] {
  const from = message === null ? end : Date.parse(message.created_at)
  const later = [
    ...approvals.filter((approval) => calls.some(({ id }) => id === approval.tool_call_id)).map((approval) => Date.parse(approval.requested_at)),
    ...messages.filter(({ tool_call_id }) => calls.some(({ id }) => id === tool_call_id)).map(({ created_at }) => Date.parse(created_at)),
    next === null ? end : Date.parse(next.created_at),
  ].filter((at) => at >= from)
  return [from, Math.min(end, ...later)]
}

function callRow(facts: Facts, told: Told, call: ToolCall, proposed: number, end: number, now: number, coarse: { found: boolean }): Row {
  const known = told.calls.get(call.id)
  const result = facts.messages.find(({ tool_call_id }) => tool_call_id === call.id)
  const isOver = call.status !== 'pending' && call.status !== 'approved'
  const from = known?.from ?? proposed
  const to = known?.to ?? (result === undefined ? end : Date.parse(result.created_at))
  const approvals = facts.approvals.filter(({ tool_call_id }) => tool_call_id === call.id)
  const waits = [...told.waits.values(), ...facts.turn.waits].filter(({ tool_call_id }) => tool_call_id === call.id)
  const below = facts.below.get(call.id)
  const children = [
    ...approvals.map((approval) => approvalRow(approval, end)),
    ...[...new Map(waits.map((wait) => [wait.id, wait])).values()].filter(({ kind }) => kind !== 'agent').map((wait) => waitRow(wait, end)),
    ...(below === undefined ? [] : [belowRow(below, from, now, coarse)]),
  ].sort((one, other) => one.from - other.from)
  const allowed = approvals.map(({ decided_at }) => decided_at).filter((at) => at !== null).map(Date.parse).sort((one, other) => other - one)[0]
  const began = known?.allowedAt ?? allowed ?? from
  return row({
    id: call.id,
    name: call.name,
    from,
    // What works in the background outlives its call.
    to: Math.max(from, to, ...(below?.background === true ? [] : children.map((child) => child.to))),
    status: call.status,
    note: call.decided_arguments === null ? '' : 'with changed arguments',
    about: { kind: 'tool', call, ranFor: isOver && call.status !== 'rejected' ? Math.max(0, to - began) : null },
    children,
  })
}

function approvalRow(approval: Approval, end: number): Row {
  const until = approval.decided_at ?? (approval.status === 'pending' ? null : approval.expires_at)
  const by = approval.decided_by == null ? '' : `${approval.status} by ${approval.decided_by}`
  return row({
    id: approval.id,
    name: 'waited for a person',
    from: Date.parse(approval.requested_at),
    to: until === null ? end : Math.min(end, Date.parse(until)),
    status: approval.status,
    note: by,
    about: { kind: 'approval', approval },
  })
}

const WAITED: Record<string, string> = { input: 'waited for an answer', result: 'waited for its result', client: 'waited for the client' }

function waitRow(wait: ToolWait, end: number): Row {
  return row({
    id: wait.id,
    name: WAITED[wait.kind] ?? 'waited',
    from: Date.parse(wait.opened_at),
    to: wait.ended_at === null ? end : Date.parse(wait.ended_at),
    status: wait.status,
    note: wait.ended_by === null ? '' : `by ${wait.ended_by}`,
    about: { kind: 'wait', wait },
  })
}

function belowRow(below: Below, from: number, now: number, coarse: { found: boolean }): Row {
  if ('facts' in below) {
    const shown = turnRow(below.facts, now, below.agentId, coarse)
    return below.background === true ? { ...shown, note: ['in the background', shown.note].filter(Boolean).join(', ') } : shown
  }
  return row({ id: below.turnId, name: below.agentId, from, to: from, status: '', note: 'not read', about: { kind: 'unread', below, problem: below.problem } })
}

/** The end of all that is below a row: what works in the background goes on after its caller. */
function latest({ to, children }: Row): number {
  return Math.max(to, ...children.map(latest))
}

function row(given: Omit<Row, 'note' | 'usage' | 'children'> & Partial<Row>): Row {
  return { note: '', usage: null, children: [], ...given }
}

function toldBy(events: readonly Envelope[]): Told {
  const told: Told = { steps: new Map(), calls: new Map(), waits: new Map(), queues: [], isCoarse: !events.some(({ type }) => type === 'stream.started') }
  if (told.isCoarse) return told
  let place: Told['queues'][number] | null = null
  for (const event of events) {
    const at = Date.parse(event.at)
    const frame = (event.data['frame'] ?? {}) as Frame
    const messageId = event.message_id ?? ''
    if (frame.type === 'waiting') {
      if (place === null) told.queues.push((place = { lane: frame.lane ?? '', from: at - (frame.seconds ?? 0) * 1000, to: null }))
      continue
    }
    if (place !== null && event.type === 'stream.chunk') {
      place.to = at
      place = null
    }
    if (event.type === 'stream.chunk') framed(told, frame, messageId, at)
    else if (event.type === 'tool_call.approved') {
      const open = told.calls.get(String(event.data['tool_call_id']))
      if (open !== undefined) open.allowedAt = at
    } else if (event.type === 'tool_call.waiting' || event.type === 'tool_call.answered') {
      const wait = event.data['wait'] as ToolWait
      told.waits.set(wait.id, wait)
    } else if (event.type === 'tool_call.completed' || event.type === 'tool_call.failed' || event.type === 'tool_call.rejected') {
      const ended = event.data['tool_call'] as { id?: string; status?: string; result?: unknown } | undefined
      const open = told.calls.get(ended?.id ?? String(event.data['tool_call_id'] ?? ''))
      if (open !== undefined) Object.assign(open, { to: at, status: ended?.status ?? 'rejected', result: ended?.result ?? null })
    }
  }
  return told
}

function framed(told: Told, frame: Frame, messageId: string, at: number): void {
  const step = told.steps.get(messageId)
  if (frame.type === 'message_start') {
    const number = frame.attempt ?? 1
    if (step === undefined) told.steps.set(messageId, { attempts: [{ number, from: at }], firstAt: null, to: null, finish: null, usage: null })
    else if (step.attempts.at(-1)?.number !== number) {
      step.attempts.push({ number, from: at })
      step.firstAt = null
    }
  } else if (frame.type === 'content_delta' || frame.type === 'reasoning_delta') {
    if (step !== undefined) step.firstAt ??= at
  } else if (frame.type === 'message_end') {
    if (step !== undefined) Object.assign(step, { to: at, finish: frame.finish_reason ?? null, usage: frame.usage ?? null })
  } else if (frame.type === 'tool_call' && frame.id !== undefined && !told.calls.has(frame.id)) {
    told.calls.set(frame.id, { from: at, messageId, name: frame.name ?? 'tool', arguments: frame.arguments ?? {}, allowedAt: null, to: null, status: null, result: null })
  }
}
