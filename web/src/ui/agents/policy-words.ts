// An approval policy in words, and sample arguments to test it with. Pure functions. What a call comes to is the service's
// to say (`POST /policies/test`): nothing here decides.

import type { Agent, ApprovalPolicy, ApprovalRule, Condition, Json, ToolInfo } from '../../client'
import { span } from '../bits'
import { people } from '../approvals/deciding'

type Comparison = Extract<Condition, { argument: string }>
type Operand = NonNullable<Comparison['eq']>
/** What of a tool its policy depends on. */
export type PolicyTool = Pick<ToolInfo, 'name' | 'parameters' | 'approval' | 'risks' | 'policy'>
export type Floor = Agent['approval_floor'][string]

const SIGNS = { eq: '=', ne: 'is not', gt: '>', ge: '≥', lt: '<', le: '≤' } as const

const FLOORS: Record<Floor, string> = {
  manual: 'manual: each call waits, whatever the mode says',
  policy: 'policy: the mode cannot switch this policy off',
  auto: 'auto: the mode may switch the tool’s own approval off',
}

const SHOWN: Record<NonNullable<ApprovalPolicy['context']>, string> = {
  full: 'the question, the agent’s reasons, and what it did before in its turn',
  question: 'of the turn, only the question',
  none: 'nothing of the turn but the call',
}

const RISKS: Record<ToolInfo['risks'][number], string> = {
  reads_untrusted: 'reads untrusted input',
  reads_private: 'reads private data',
  acts_outward: 'acts on the outside',
}

/** A condition as the service words it: `amount > 1000`. */
export function conditionWords(condition: Condition): string {
  if ('all_of' in condition) return joined(condition.all_of, ' and ')
  if ('any_of' in condition) return joined(condition.any_of, ' or ')
  if ('none_of' in condition) return `none of (${joined(condition.none_of, ', ')})`
  return `${argumentWords(condition)} ${operators(condition).join(' and ')}`
}

function joined(parts: Condition[], word: string): string {
  return parts.map((part) => ('all_of' in part || 'any_of' in part ? `(${conditionWords(part)})` : conditionWords(part))).join(word)
}

function argumentWords({ argument, part }: Pick<Comparison, 'argument' | 'part'>): string {
  const path = argument.startsWith('/') ? argument.slice(1).replaceAll('/', '.') : argument
  return part == null ? path : `${part} of ${path}`
}

function operators(comparison: Comparison): string[] {
  const { one_of: oneOf, matches, exists } = comparison
  const told = Object.entries(SIGNS).flatMap(([name, sign]) => {
    const operand = comparison[name as keyof typeof SIGNS]
    return operand == null ? [] : [`${sign} ${shown(operand)}`]
  })
  if (oneOf != null) told.push(`is one of ${oneOf.map(shown).join(', ')}`)
  if (matches != null) told.push(`matches ${matches}`)
  if (exists != null) told.push(exists ? 'is given' : 'is not given')
  return told
}

function shown(operand: Operand): string {
  return typeof operand === 'string' ? `“${operand}”` : String(operand)
}

/** What a rule that holds requires. Where it names nobody, the people of its policy decide; its quorum is never smaller. */
export function effectWords({ then }: ApprovalRule, policy: ApprovalPolicy): string {
  const { roles = [], users = [] } = then
  const who = roles.length + users.length > 0 ? { roles, users } : policy
  const quorum = Math.max(policy.quorum, then.quorum ?? 1)
  return [
    `needs the approval of ${people({ roles: who.roles, users: who.users, quorum })}`,
    ...(then.forbid_self_approval === true ? ['not of the user who asked for the turn'] : []),
    ...(then.allow_changes === false ? ['of the arguments as they are'] : []),
    ...(then.allow_for_session == null ? [] : [grantWords(then.allow_for_session)]),
    ...(then.timeout_seconds == null ? [] : [`within ${span(then.timeout_seconds * 1000)}`]),
  ].join(', ')
}

function grantWords(grant: ApprovalPolicy['allow_for_session']): string {
  if (typeof grant === 'boolean') return grant ? 'it may be given for the rest of a session' : 'for this call only'
  return `it may be given for the rest of a session, for calls with the same ${grant.same.map(argumentWords).join(' and ')}`
}

/** What a policy says of every call, beside its rules; floor: undefined where the agent sets none. */
export function policyLines(policy: ApprovalPolicy, tool: PolicyTool | undefined, floor: Floor | undefined): { name: string; words: string }[] {
  const rest = (policy.rules ?? []).length > 0 ? 'only if a rule holds' : 'no'
  const byTool = tool === undefined ? 'as the tool says' : tool.approval === 'manual' ? 'yes, by the tool’s default' : `${rest}, by the tool’s default`
  const limit = policy.timeout_seconds === null ? 'the session’s' : span(policy.timeout_seconds * 1000)
  return [
    { name: 'Calls wait', words: policy.required === null ? byTool : policy.required ? 'yes, always' : rest },
    { name: 'Approval floor', words: floorWords(tool, floor) },
    { name: 'Decided by', words: people(policy) },
    { name: 'Quorum', words: policy.quorum === 1 ? 'one person' : `${policy.quorum} people` },
    {
      name: 'An approval',
      words: [
        policy.forbid_self_approval ? 'not by the user who asked for the turn' : 'also by the user who asked for the turn',
        policy.allow_changes ? 'may change the arguments' : 'may not change the arguments',
        grantWords(policy.allow_for_session),
      ].join('; '),
    },
    { name: 'Time limit', words: `${limit}, then ${policy.on_timeout === 'approve' ? 'approved' : 'rejected'}` },
    ...(policy.reminder_seconds === null ? [] : [{ name: 'Reminder', words: `every ${span(policy.reminder_seconds * 1000)}` }]),
    ...(policy.escalation_role === null || policy.escalate_after_seconds === null
      ? []
      : [{ name: 'Escalation', words: `after ${span(policy.escalate_after_seconds * 1000)} any ${policy.escalation_role} may decide, too` }]),
    ...(policy.context == null ? [] : [{ name: 'They see', words: SHOWN[policy.context] }]),
    ...(policy.channels === undefined || policy.channels === null
      ? []
      : [{ name: 'Told', words: policy.channels.length === 0 ? 'in the inbox only' : `in the inbox, and by ${policy.channels.join(', ')}` }]),
  ]
}

/** The floor of a tool: the agent's, else by what the tool does. */
function floorWords(tool: PolicyTool | undefined, floor: Floor | undefined): string {
  if (floor !== undefined) return FLOORS[floor]
  if (tool === undefined) return 'the tool’s default'
  return `${FLOORS[tool.approval === 'manual' || tool.risks.includes('acts_outward') ? 'policy' : 'auto']} (the tool’s default)`
}

export function riskWords(risks: ToolInfo['risks']): string {
  return risks.length === 0 ? 'none' : risks.map((risk) => RISKS[risk]).join(', ')
}

/** Every tool whose calls an agent may make or has a policy for, by name; pinned: of its MCP servers, besides its others. */
export function toolNames({ tools: chosen, policies, approval_floor }: Pick<Agent, 'tools' | 'policies' | 'approval_floor'>, tools: PolicyTool[], pinned: PolicyTool[] = []): string[] {
  const offered = chosen ?? tools.map(({ name }) => name)
  return [...new Set([...offered, ...pinned.map(({ name }) => name), ...Object.keys(policies), ...Object.keys(approval_floor)])].sort()
}

/** The required arguments of a tool with values to begin from: its JSON Schema's defaults, else empty ones. */
export function sampleArguments(parameters: ToolInfo['parameters']): { [key: string]: Json } {
  const { properties, required } = parameters as { properties?: Record<string, Schema>; required?: string[] }
  return Object.fromEntries((required ?? []).map((name) => [name, sample(properties?.[name] ?? {})]))
}

interface Schema {
  type?: string | string[]
  default?: Json
  const?: Json
  enum?: Json[]
  anyOf?: Schema[]
}

const EMPTY: Record<string, Json> = { string: '', number: 0, integer: 0, boolean: false, array: [], object: {} }

function sample(schema: Schema): Json {
  const said = schema.default ?? schema.const ?? schema.enum?.[0]
  if (said !== undefined) return said
  if (schema.anyOf?.[0] !== undefined) return sample(schema.anyOf[0])
  return EMPTY[[schema.type].flat()[0] ?? ''] ?? null
}
