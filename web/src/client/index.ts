// The streaming client: everything that a user interface needs, without any user interface.

export { Api, ApiError, type ApiOptions, type Query } from './api.js'
export * from './conversation.js'
export { SessionFeed, type FeedState } from './feed.js'
export { ExactNumber, jsonText, parsedJson } from './json.js'
export { Live, type LiveListener, type LiveState } from './live.js'
export type * from './models.js'
export type { Subagents, SubagentView } from './subagents.js'
