// What the API has of a turn, and of the turns of the agents that its calls asked.

import type { Api, Approval, Envelope, Message, Session, SubagentTurn, Turn } from '../../../client'
import { words } from '../../context'
import type { Below, Facts } from './rows'

/** Of one question a few agents may be asked, three below one another; this bounds what a page reads of a turn that asked more. */
const MOST_BELOW = 40

export async function readTurn(api: Api, sessionId: string, turnId: string): Promise<Facts> {
  return read(api, sessionId, turnId, { left: MOST_BELOW })
}

async function read(api: Api, sessionId: string, turnId: string, budget: { left: number }): Promise<Facts> {
  const path = `/sessions/${encodeURIComponent(sessionId)}`
  const turn = await api.get<Turn>(`${path}/turns/${encodeURIComponent(turnId)}`)
  const [session, question, messages, approvals, events, below] = await Promise.all([
    api.get<Session>(path),
    api.get<Message>(`${path}/messages/${encodeURIComponent(turn.message_id)}`),
    api.all<Message>(`${path}/messages`, { branch: turn.branch, from: turn.created_at, ...(turn.ended_at === null ? {} : { to: later(turn.ended_at) }) }),
    api.all<Approval>(`${path}/approvals`, { turn_id: turnId }),
    eventsOf(api, sessionId, turn),
    Promise.all((turn.subagents ?? []).map((child) => readBelow(api, child, budget))),
  ])
  const own = messages.filter(({ turn_id, role }) => turn_id === turn.id && role !== 'user')
  return { turn, session, question, messages: own, approvals, events, below: new Map(below) }
}

async function readBelow(api: Api, child: SubagentTurn, budget: { left: number }): Promise<[string, Below]> {
  const about = { agentId: child.agent_id, sessionId: child.session_id, turnId: child.turn_id, background: child.background === true }
  budget.left -= 1
  if (budget.left < 0) return [child.tool_call_id, { ...about, problem: `Only the first ${MOST_BELOW} agents below a turn are read; open its session.` }]
  try {
    return [child.tool_call_id, { ...about, facts: await read(api, child.session_id, child.turn_id, budget) }]
  } catch (error) {
    return [child.tool_call_id, { ...about, problem: words(error) }]
  }
}

function later(at: string): string {
  return new Date(Date.parse(at) + 1000).toISOString()
}

/** The turn's events, as far as they are kept. They are searched from the newest backwards, in growing steps. */
async function eventsOf(api: Api, sessionId: string, turn: Turn): Promise<Envelope[]> {
  const newest = (await api.events(sessionId, 0, 1)).last_seq
  for (const back of [500, 2_500, 10_000]) {
    const events: Envelope[] = []
    let after = Math.max(0, newest - back)
    for (;;) {
      const page = await api.events(sessionId, after)
      events.push(...page.items)
      const isPast = events.some((event) => event.turn_id === turn.id && event.type === 'stream.ended')
      if (page.next_cursor === null || isPast) break
      after = Number(page.next_cursor)
    }
    const hasStart = events.some((event) => event.turn_id === turn.id && event.type === 'stream.started')
    if (hasStart || newest - back <= 0) return events
  }
  return []
}
