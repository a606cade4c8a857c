// Short names for the wire types. `wire.ts` is generated; no other module may define types of the API.

import type { ExactNumber } from './json'
import type { components } from './wire'

type Schemas = components['schemas']

export type Agent = Schemas['Agent']
export type Approval = Schemas['Approval']
export type Me = Schemas['Me']
export type Attachment = Schemas['Attachment']
export type AttachmentRef = Schemas['AttachmentRef']
export type Bookmark = Schemas['Bookmark']
export type Branch = Schemas['Branch']
export type Checkpoint = Schemas['Checkpoint']
export type Envelope = Schemas['Envelope']
export type EventPage = Schemas['EventPage']
export type FinishReason = Schemas['FinishReason']
export type Message = Schemas['Message']
export type ModelUsage = Schemas['ModelUsage']
export type PeriodStatistics = Schemas['PeriodStatistics']
export type PostedTurn = Schemas['PostedTurn']
export type Problem = Schemas['Problem']
export type ReasoningEffort = Schemas['ReasoningEffort']
export type Session = Schemas['Session']
export type SessionConfig = Schemas['SessionConfig']
export type SessionStatistics = Schemas['SessionStatistics']
export type SessionStatus = Schemas['SessionStatus']
export type SearchHit = Schemas['SearchHit']
export type Tag = Schemas['Tag']
export type Template = Schemas['Template']
export type ToolCall = Schemas['ToolCall']
export type ToolInfo = Schemas['ToolInfo']
export type Turn = Schemas['Turn']
export type Usage = Schemas['Usage']
export type Vote = Schemas['Vote']

/** JSON from a tool or a model: untrusted input without a known shape. */
export type Json = null | boolean | number | ExactNumber | string | Json[] | { [key: string]: Json }

export interface Page<T> {
  items: T[]
  next_cursor: string | null
}
