// Rooms that are not the chat: each a part of its own.

import { later } from './shell/later'

export const AgentPage = later(() => import('./agents/agent-page').then((part) => part.AgentPage))
export const AgentsPage = later(() => import('./agents/agents-page').then((part) => part.AgentsPage))
export const ToolsPage = later(() => import('./agents/tools-page').then((part) => part.ToolsPage))
export const OverviewPage = later(() => import('./insight/overview-page').then((part) => part.OverviewPage))
export const SessionInsightPage = later(() => import('./insight/session-page').then((part) => part.SessionInsightPage))
export const TurnPage = later(() => import('./insight/turn-page').then((part) => part.TurnPage))
export const WebhooksPage = later(() => import('./webhooks/webhooks-page').then((part) => part.WebhooksPage))
