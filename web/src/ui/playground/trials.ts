// Sessions that try a version of an agent or a draft. They are thrown away when they are no longer wanted; what nobody
// throws away expires after a day.

import type { Api, Agent, PostedTurn, Session } from '../../client'

export type Tried = { version: number } | { draft: unknown }

export async function beginTrial(api: Api, agentId: string, tried: Tried, name: string): Promise<Session> {
  return api.post<Session>(`/agents/${encodeURIComponent(agentId)}/trials`, { ...tried, name })
}

export async function say(api: Api, sessionId: string, content: string): Promise<PostedTurn> {
  return api.post<PostedTurn>(`/sessions/${encodeURIComponent(sessionId)}/messages`, { content })
}

export async function throwAway(api: Api, sessionId: string): Promise<void> {
  await api.delete(`/sessions/${encodeURIComponent(sessionId)}`)
}

/** The versions that there are, newest first. */
export function versionsOf({ version }: Pick<Agent, 'version'>): number[] {
  return Array.from({ length: version }, (_, back) => version - back)
}
