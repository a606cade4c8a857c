// The streaming client: everything that a user interface needs, without any user interface.

export { Api, ApiError, type ApiOptions, type Query } from './api'
export * from './conversation'
export { SessionFeed, type FeedState } from './feed'
export { ExactNumber, jsonText, parsedJson } from './json'
export { Live, type LiveState } from './live'
export type * from './models'
