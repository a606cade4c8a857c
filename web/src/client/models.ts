// Short names for the wire types. `wire.ts` is generated; no other module may define types of the API.

import type { ExactNumber } from './json.js'
import type { components } from './wire.js'

type Schemas = components['schemas']

export type Agent = Schemas['Agent']
export type McpServerReport = Schemas['McpServerReport']
export type McpServer = Schemas['McpServer']
export type PinReport = Schemas['PinReport']
export type Approval = Schemas['Approval']
export type ApprovalContext = Schemas['ApprovalContext']
export type ApprovalPolicy = Schemas['ApprovalPolicy']
export type ApprovalRule = Schemas['ApprovalRule']
export type Me = Schemas['Me']
export type Attachment = Schemas['Attachment']
export type AttachmentRef = Schemas['AttachmentRef']
export type Bookmark = Schemas['Bookmark']
export type Branch = Schemas['Branch']
export type Condition = Schemas['Condition']
export type Checkpoint = Schemas['Checkpoint']
export type Delivery = Schemas['Delivery']
/** Of all events, newer ones than this console knows included: what is in `data` is looked at where it is used. */
export type Envelope = {
  seq: number
  type: Schemas['Envelope']['type']
  session_id: string
  turn_id?: string
  message_id?: string
  at: string
  data: Record<string, unknown>
}
export type EventPage = Omit<Schemas['EventPage'], 'items'> & { items: Envelope[] }
export type FinishReason = Schemas['FinishReason']
export type InputAnswer = Schemas['InputAnswer']
export type ListedSession = Schemas['ListedSession']
export type Message = Schemas['Message']
export type ModelUsage = Schemas['ModelUsage']
export type NewPolicyTest = Schemas['NewPolicyTest']
export type NewSchedule = Schemas['NewSchedule']
export type NewTrigger = Schemas['NewTrigger']
export type Participant = Schemas['Participant']
export type PeriodStatistics = Schemas['PeriodStatistics']
export type PolicyTest = Schemas['PolicyTest']
export type PostedTurn = Schemas['PostedTurn']
export type Question = Schemas['Question']
export type Schedule = Schemas['Schedule']
export type ScheduleDetail = Schemas['ScheduleDetail']
export type ScheduleRun = Schemas['ScheduleRun']
export type Problem = Schemas['Problem']
export type ReasoningEffort = Schemas['ReasoningEffort']
export type Session = Schemas['Session']
export type SessionConfig = Schemas['SessionConfig']
export type SessionPresence = Schemas['SessionPresence']
export type SessionStatistics = Schemas['SessionStatistics']
export type SessionStatus = Schemas['SessionStatus']
export type SearchHit = Schemas['SearchHit']
export type SubagentTurn = Schemas['SubagentTurn']
export type SubagentResult = Schemas['SubagentResult']
export type Tag = Schemas['Tag']
export type Template = Schemas['Template']
export type ToolCall = Schemas['ToolCall']
export type ToolWait = Schemas['ToolWait']
export type ToolInfo = Schemas['ToolInfo']
export type Trigger = Schemas['Trigger']
export type TriggerSource = Schemas['TriggerSource']
export type Turn = Schemas['Turn']
export type Usage = Schemas['Usage']
export type Vote = Schemas['Vote']
export type Webhook = Schemas['Webhook']

export type Access = Participant['access']

/** What the user may do in a session from now on; null: nothing more. It is sent to the user, not to the session. */
export interface AccessChange {
  session_id: string
  access: Access | null
}

/** JSON from a tool or a model: untrusted input without a known shape. */
export type Json = null | boolean | number | ExactNumber | string | Json[] | { [key: string]: Json }

export interface Page<T> {
  items: T[]
  next_cursor: string | null
}
