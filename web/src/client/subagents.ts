// What became of agents that tool calls asked, as the frames `subagent` of their caller's turn tell it.

import type { Approval, Turn } from './models.js'

export interface SubagentView {
  agent_id: string
  session_id: string
  turn_id: string
  status: Turn['status']
  /** Its call does not wait for it: its result comes as a message. */
  background: boolean
  /** Of its newest answer, as far as it was told. */
  text: string
  /** What it waits for; an approver may have to look. */
  approval: Approval | null
  /** Its own tool calls, of which some may have asked further agents. */
  calls: { id: string; name: string }[]
}

export type Subagents = Record<string, SubagentView>

interface Told {
  type: string
  data: Record<string, unknown>
}

/** Those of turns from the store, by the tool call that they answer. */
export function subagentsOf(turns: readonly Turn[]): Subagents {
  const told = turns.flatMap(({ subagents }) => subagents ?? [])
  return Object.fromEntries(told.map(({ tool_call_id, background = false, ...named }) => [tool_call_id, { ...named, background, text: '', approval: null, calls: [] }]))
}

/** With what a frame tells. */
export function withTold(known: Subagents, frame: Record<string, unknown>): Subagents {
  const { tool_call_id, background = false, ...named } = frame['subagent'] as { tool_call_id: string; agent_id: string; session_id: string; turn_id: string; background?: boolean }
  const before = known[tool_call_id] ?? { ...named, background, status: 'queued' as const, text: '', approval: null, calls: [] }
  return { ...known, [tool_call_id]: changed(before, frame['told'] as Told) }
}

/** Whether somebody is asked in the session of one of them that its caller waits for. */
export function anyWaits(known: Subagents, callIds: readonly string[]): boolean {
  return callIds.some((id) => {
    const found = known[id]
    return found !== undefined && !found.background && (found.approval?.status === 'pending' || anyWaits(known, found.calls.map((call) => call.id)))
  })
}

function changed(view: SubagentView, { type, data }: Told): SubagentView {
  switch (type) {
    case 'stream.chunk':
      return framed(view, data['frame'] as { type: string } & Record<string, unknown>)
    case 'stream.ended':
      return { ...view, status: data['status'] as Turn['status'], approval: null }
    case 'tool_call.pending':
      return { ...view, status: 'waiting_approval', approval: data['approval'] as Approval }
    case 'tool_call.approved':
    case 'tool_call.rejected':
      return { ...view, status: 'running', approval: null }
    default:
      return view
  }
}

function framed(view: SubagentView, frame: { type: string } & Record<string, unknown>): SubagentView {
  switch (frame.type) {
    case 'message_start':
      return { ...view, status: view.status === 'queued' ? 'running' : view.status, text: '' }
    case 'content_delta':
      return { ...view, text: view.text + String(frame['text']) }
    case 'tool_call': {
      const call = { id: String(frame['id']), name: String(frame['name']) }
      return view.calls.some(({ id }) => id === call.id) ? view : { ...view, calls: [...view.calls, call] }
    }
    default:
      return view
  }
}
