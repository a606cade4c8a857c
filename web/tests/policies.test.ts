import { describe, expect, it } from 'vitest'
import type { Agent, ApprovalPolicy, ApprovalRule, Condition } from '../src/client'
import { pinnedTools } from '../src/ui/agents/pinned-tools'
import { conditionWords, effectWords, policyLines, riskWords, sampleArguments, toolNames, type Floor, type PolicyTool } from '../src/ui/agents/policy-words'
import { parsedArguments } from '../src/ui/approvals/arguments'
import PAIRS from './condition-words.json'

const POLICY: ApprovalPolicy = {
  required: null,
  roles: ['approver'],
  users: [],
  quorum: 1,
  forbid_self_approval: false,
  allow_changes: true,
  allow_for_session: false,
  timeout_seconds: null,
  on_timeout: 'reject',
  reminder_seconds: null,
  escalate_after_seconds: null,
  escalation_role: null,
}
const TOOL: PolicyTool = {
  name: 'refund',
  approval: 'manual',
  risks: ['acts_outward'],
  parameters: {},
  policy: POLICY,
}
const RULE: ApprovalRule = { name: 'Large', when: { argument: 'amount', gt: 1000 }, then: { required: true } }

/** The words of one line. */
function line(name: string, policy: Partial<ApprovalPolicy>, tool: Partial<PolicyTool> | null = {}, floor?: Floor): string | undefined {
  return policyLines({ ...POLICY, ...policy }, tool === null ? undefined : { ...TOOL, ...tool }, floor).find((one) => one.name === name)?.words
}

// The pairs are those that tests/unit/approvals/test_conditions.py holds against the service.
describe('a condition is worded as the service words it', () => {
  it.each(PAIRS as { condition: Condition; words: string }[])('$words', ({ condition, words }) => expect(conditionWords(condition)).toBe(words))
})

describe('what those who decide see', () => {
  it('is told where a policy narrows it', () => {
    expect(line('They see', {})).toBeUndefined()
    expect(line('They see', { context: 'question' })).toBe('of the turn, only the question')
  })
})

describe('a rule that holds', () => {
  it('is decided by the policy’s people, where it names none', () => {
    expect(effectWords(RULE, { ...POLICY, quorum: 2 })).toBe('needs the approval of 2 people (any approver)')
  })

  it('is decided by its own people, and never by fewer than the policy says', () => {
    const rule: ApprovalRule = { ...RULE, then: { required: true, roles: ['finance'], quorum: 2, forbid_self_approval: true, allow_for_session: false, timeout_seconds: 90 } }
    expect(effectWords(rule, { ...POLICY, quorum: 3 })).toBe(
      'needs the approval of 3 people (any finance), not of the user who asked for the turn, for this call only, within 1 min 30 s',
    )
  })
})

describe('a policy', () => {
  it('says which calls wait', () => {
    expect(line('Calls wait', { required: true })).toBe('yes, always')
    expect(line('Calls wait', { required: false })).toBe('no')
    expect(line('Calls wait', { required: false, rules: [RULE] })).toBe('only if a rule holds')
    expect(line('Calls wait', {})).toBe('yes, by the tool’s default')
    expect(line('Calls wait', { rules: [RULE] }, { approval: 'auto' })).toBe('only if a rule holds, by the tool’s default')
    expect(line('Calls wait', {}, null)).toBe('as the tool says')
  })

  it('names its floor, or the one that its tool has', () => {
    expect(line('Approval floor', {}, {}, 'manual')).toBe('manual: each call waits, whatever the mode says')
    expect(line('Approval floor', {})).toContain('policy')
    expect(line('Approval floor', {}, { approval: 'auto' })).toContain('policy')
    expect(line('Approval floor', {}, { approval: 'auto', risks: ['reads_private'] })).toContain('auto')
  })

  it('names its people, quorum, limits, and what a grant binds', () => {
    expect(line('Decided by', { roles: ['finance'], users: ['ana'] })).toBe('ana or any finance')
    expect(line('Quorum', { quorum: 2 })).toBe('2 people')
    expect(line('An approval', { forbid_self_approval: true, allow_changes: false, allow_for_session: { same: [{ argument: 'url', part: 'host' }] } })).toBe(
      'not by the user who asked for the turn; may not change the arguments; it may be given for the rest of a session, for calls with the same host of url',
    )
    expect(line('Time limit', { timeout_seconds: 3600, on_timeout: 'approve' })).toBe('1 h 0 min, then approved')
    expect(line('Escalation', {})).toBeUndefined()
    expect(line('Told', {})).toBeUndefined()
    expect(line('Told', { channels: [] })).toBe('in the inbox only')
    expect(line('Told', { channels: ['slack', 'email'] })).toBe('in the inbox, and by slack, email')
    expect(line('Escalation', { escalate_after_seconds: 60, escalation_role: 'admin' })).toBe('after 1 min 0 s any admin may decide, too')
  })
})

it('an agent’s tools are those that it may call and those it has a policy or a floor for', () => {
  const tools = [TOOL, { ...TOOL, name: 'calculate' }]
  expect(toolNames({ tools: null, policies: {}, approval_floor: {} }, tools)).toEqual(['calculate', 'refund'])
  expect(toolNames({ tools: ['gone'], policies: { refund: POLICY }, approval_floor: { other: 'auto' } }, tools)).toEqual(['gone', 'other', 'refund'])
})

it('pinned tools of MCP servers are as strict as the service takes them, or as the admin’s rules say', () => {
  const agent = {
    mcp_servers: [{ name: 'rooms', rules: { list: { approval: 'auto', idempotent: true, acts_outward: false, timeout_seconds: 5 } } }],
    mcp_pins: ['book', 'list'].map((name) => ({ name: `rooms__${name}`, server: 'rooms', definition: { name, description: 'A room.', input_schema: {} } })),
  } as unknown as Agent
  const [book, list] = pinnedTools(agent, [TOOL])
  expect(book).toMatchObject({ name: 'rooms__book', approval: 'manual', risks: ['reads_untrusted', 'reads_private', 'acts_outward'], policy: { required: true } })
  expect(list).toMatchObject({ approval: 'auto', risks: ['reads_untrusted', 'reads_private'], policy: { required: false } })
  expect(toolNames({ tools: ['refund'], policies: {}, approval_floor: {} }, [TOOL], pinnedTools(agent, [TOOL]))).toEqual(['refund', 'rooms__book', 'rooms__list'])
  expect(pinnedTools(null, [TOOL])).toEqual([])
})

it('sample arguments are the required ones, of the right types', () => {
  const properties = {
    method: { enum: ['GET', 'POST'] },
    url: { type: 'string' },
    amount: { type: 'integer', default: 5 },
    lines: { type: 'array' },
    note: { anyOf: [{ type: 'string' }, { type: 'null' }] },
    row: { $ref: '#/$defs/Row' },
    left_out: { type: 'string' },
  }
  const required = ['method', 'url', 'amount', 'lines', 'note', 'row', 'unknown']
  expect(sampleArguments({ properties, required })).toEqual({ method: 'GET', url: '', amount: 5, lines: [], note: '', row: null, unknown: null })
  expect(sampleArguments({})).toEqual({})
})

it('written arguments are an object, or a problem', () => {
  expect(parsedArguments('{"a": 1}')).toEqual({ ok: true, value: { a: 1 } })
  expect(parsedArguments('[1]')).toEqual({ ok: false, problem: 'The arguments must be a JSON object.' })
  expect(parsedArguments('{"a": ').ok).toBe(false)
})

it('risks are words', () => {
  expect(riskWords([])).toBe('none')
  expect(riskWords(['reads_private', 'acts_outward'])).toBe('reads private data, acts on the outside')
})
