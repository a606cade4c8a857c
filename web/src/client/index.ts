// The streaming client: everything a user interface needs, and nothing of one.

export { Api, ApiError, type ApiOptions, type Query } from './api'
export * from './conversation'
export { SessionFeed, type FeedState } from './feed'
export { ExactNumber, jsonText, parsedJson } from './json'
export { Live, type LiveState } from './live'
export type * from './models'
