// Rooms that are not the chat: each a part of its own.

import { later } from './shell/later'

export const AgentPage = later(() => import('./agents/agent-page').then((part) => part.AgentPage))
export const AgentsPage = later(() => import('./agents/agents-page').then((part) => part.AgentsPage))
export const ToolsPage = later(() => import('./agents/tools-page').then((part) => part.ToolsPage))
export const OverviewPage = later(() => import('./insight/overview-page').then((part) => part.OverviewPage))
export const SessionInsightPage = later(() => import('./insight/session-page').then((part) => part.SessionInsightPage))
export const TurnPage = later(() => import('./insight/turn-page').then((part) => part.TurnPage))
export const WebhooksPage = later(() => import('./webhooks/webhooks-page').then((part) => part.WebhooksPage))
export const BuildPage = later(() => import('./build/build-page').then((part) => part.BuildPage))
export const PlaygroundPage = later(() => import('./playground/playground-page').then((part) => part.PlaygroundPage))
export const PoliciesPage = later(() => import('./agents/policies-page').then((part) => part.PoliciesPage))
export const McpPage = later(() => import('./agents/mcp-page').then((part) => part.McpPage))
export const SchedulesPage = later(() => import('./unattended/schedules-page').then((part) => part.SchedulesPage))
export const TriggersPage = later(() => import('./unattended/triggers-page').then((part) => part.TriggersPage))

/** How many parts an address has at most behind the name of its room. */
const DEEPEST: Readonly<Record<string, number>> = { approvals: 1, insight: 1, agents: 1, playground: 2, policies: 2 }

/** Whether a room has a page of this address; whether what it names is there is for the page to say. */
export function isAddress([room = 'sessions', ...rest]: readonly string[]): boolean {
  if (!Object.hasOwn(ROOM_NAMES, room)) return false
  if (room !== 'sessions' || rest.length < 2) return rest.length <= (room === 'sessions' ? 1 : (DEEPEST[room] ?? 0))
  if (rest[1] === 'at') return rest.length === 3
  return rest[1] === 'turns' && (rest.length === 3 || rest.length === 4)
}

/** What each room is called, by its name in an address. */
export const ROOM_NAMES: Readonly<Record<string, string>> = {
  sessions: 'Chat',
  approvals: 'Approvals',
  insight: 'Insight',
  build: 'Build',
  agents: 'Agents',
  playground: 'Playground',
  policies: 'Approval policies',
  mcp: 'MCP servers',
  tools: 'Tools',
  schedules: 'Schedules',
  triggers: 'Triggers',
  webhooks: 'Webhooks',
}
