import { describe, expect, it } from 'vitest'
import { diffLines } from '../src/ui/approvals/diff'
import { approvalsSoFar } from '../src/ui/approvals/votes'
import { authorName, isShared } from '../src/ui/chat/messages/authors'
import { forksByMessage, forksOf } from '../src/ui/chat/messages/siblings'
import { dayGroup } from '../src/ui/chat/session/rows'
import { problemsOf, valueOf } from '../src/ui/chat/session/settings'
import { endingOf } from '../src/ui/endings'
import { samples, total } from '../src/ui/insight/metrics'
import { waitingForMe } from '../src/ui/shell/questions'
import { money, tokenWords } from '../src/ui/insight/usage'
import { ApiError, jsonText, type Approval, type Branch, type FinishReason, type MessageView } from '../src/client'

it('of sessions that wait for an answer only my own wait for me', () => {
  const session = (access: 'owner' | 'write', open_turn: 'waiting_input' | 'waiting_approval' | null) => ({ access, open_turn })
  expect(waitingForMe([session('owner', 'waiting_input'), session('write', 'waiting_input'), session('owner', 'waiting_approval'), session('owner', null)])).toBe(1)
})

describe('a diff', () => {
  it('shows what was taken out and what was put in, and keeps the rest', () => {
    expect(diffLines('a\nb\nc', 'a\nx\nc')).toEqual([
      { kind: 'same', text: 'a' },
      { kind: 'removed', text: 'b' },
      { kind: 'added', text: 'x' },
      { kind: 'same', text: 'c' },
    ])
  })

  it('of equal texts shows no change', () => {
    expect(diffLines('a\nb', 'a\nb').every(({ kind }) => kind === 'same')).toBe(true)
  })
})

it('of approvals only those of the same arguments add up', () => {
  const vote = (by: string, decision: string, values: object | null) => ({ by, decision, arguments: values })
  const votes = [vote('ana', 'approve', { b: 1, a: 2 }), vote('ben', 'approve', null), vote('cleo', 'reject', null), vote('dora', 'approve', { a: 2, b: 1 })]
  expect(approvalsSoFar({ arguments: { a: 1 }, votes } as unknown as Approval)).toBe(2)
  expect(approvalsSoFar({ arguments: {}, votes: [] } as unknown as Approval)).toBe(0)
})

it('metrics are summed over their labels', () => {
  const all = samples('# HELP x y\nmessages_total{role="user"} 3\nmessages_total{role="a\\"b"} 4\nother 1e3\n')
  expect(total(all, 'messages_total')).toBe(7)
  expect(total(all, 'other')).toBe(1000)
  expect(total(all, 'absent')).toBe(null)
  expect(all[1]?.labels).toEqual({ role: 'a"b' })
})

it.each([
  ['stop', 'completed', null],
  ['tool_calls', 'completed', null],
  ['length', 'completed', 'Cut at the output limit'],
  ['content_filter', 'failed', 'Stopped by the content filter'],
  ['refusal', 'completed', 'The model declined'],
  ['cancelled', 'cancelled', 'Cancelled'],
  [null, 'cancelled', 'Cancelled'], // of a service that gave no reasons
  [null, 'failed', null],
  ['length', 'streaming', null],
  ['of_a_newer_service', 'completed', null],
])('an answer that ended with %s (%s) says %s', (finish_reason, status, words) => {
  expect(endingOf({ status: status as MessageView['status'], finish_reason: finish_reason as FinishReason | null })).toBe(words)
})

describe('the author of a message', () => {
  const by = (...authors: (string | null)[]): MessageView[] => authors.map((author) => ({ role: 'user', author }) as MessageView)

  it.each([
    [by('olga', 'olga', null), 'olga', false],
    [by('olga', 'ben'), 'olga', true],
    [by('ben'), 'olga', true],
    [by(null), 'olga', false],
    [by('olga'), null, false],
    [by('olga', 'ben'), null, true],
    [[{ role: 'assistant', author: 'ben' } as MessageView], 'olga', false],
  ])('is named where others write, too (%#)', (messages, me, expected) => {
    expect(isShared(messages, me)).toBe(expected)
  })

  it('is one that the reader knows', () => {
    expect(authorName('olga', 'olga', false)).toBe('You')
    expect(authorName('olga', 'olga', true)).toBe('olga (you)')
    expect(authorName('ben', 'olga', true)).toBe('ben')
    expect(authorName(null, 'olga', true)).toBe('A participant')
  })
})

describe('a fork of the conversation', () => {
  const branch = (number: number, parent: number | null, after: string | null): Branch => ({ branch: number, parent_branch: parent, fork_message_id: after, message_count: 1, created_at: '', active: false })
  // Two answers to q1; in the second of them two to q2; and another beginning.
  const branches = [branch(0, null, null), branch(1, 0, 'q1'), branch(2, 1, 'q2'), branch(3, 0, null)]
  const said = (...ids: string[]): MessageView[] => ids.map((id) => ({ id }) as MessageView)

  it.each([
    [0, [{ after: 'q1', branches: [0, 1], at: 0 }, { after: null, branches: [0, 3], at: 0 }]],
    [2, [{ after: 'q1', branches: [0, 1], at: 1 }, { after: 'q2', branches: [1, 2], at: 1 }, { after: null, branches: [0, 3], at: 0 }]],
    [3, [{ after: 'q1', branches: [0, 1], at: 0 }, { after: null, branches: [0, 3], at: 1 }]],
  ])('is seen from branch %d', (active, forks) => {
    expect(forksOf(branches, active)).toEqual(forks)
  })

  it('is shown at the first message behind it that is shown, and only where it is on the branch', () => {
    const messages = said('q1', 'a1', 'r1', 'q2')
    const shown = said('q1', 'a1', 'q2')
    const at = (after: string | null, hasOlder = false): string[] => [...forksByMessage([{ after, branches: [0, 1], at: 0 }], messages, shown, hasOlder).keys()]
    expect(at('q1')).toEqual(['a1'])
    expect(at('r1')).toEqual(['q2'])
    expect(at('q2')).toEqual(['']) // it goes on with nothing yet
    expect(at('elsewhere')).toEqual([])
    expect(at(null)).toEqual(['q1'])
    expect(at(null, true)).toEqual([]) // the beginning is not loaded
  })
})

it.each([
  ['2026-03-29T23:59:00', 'Today'],
  ['2026-03-28T00:00:00', 'Yesterday'],
  ['2026-03-27T23:59:00', 'Previous 7 days'],
  ['2026-03-22T01:00:00', 'Previous 7 days'],
  ['2026-03-21T23:00:00', 'Previous 30 days'],
  ['2026-01-05T12:00:00', 'January 2026'],
])('a session of %s is listed under %s', (at, name) => {
  expect(dayGroup(new Date(at), new Date('2026-03-29T12:00:00'))).toBe(name)
})

describe('a setting', () => {
  it('is sent as what it means, and null where it is taken away', () => {
    expect(valueOf('reasoning_effort', '')).toEqual({ ok: true, value: null })
    expect(valueOf('reasoning_effort', 'high')).toEqual({ ok: true, value: 'high' })
    expect(valueOf('max_turn_cost_usd', '0.25')).toEqual({ ok: true, value: 0.25 })
    expect(valueOf('output_schema', '{"type": "object"}')).toEqual({ ok: true, value: { type: 'object' } })
  })

  it('that is a schema keeps its numbers digit for digit', () => {
    const read = valueOf('output_schema', '{"minimum":1.0,"maximum":9007199254740993}')
    expect(read.ok && jsonText(read.value)).toBe('{"minimum":1.0,"maximum":9007199254740993}')
  })

  it.each(['{', '{"a": }', 'words'])('that is not valid JSON is not sent: %s', (text) => {
    expect(valueOf('output_schema', text)).toMatchObject({ ok: false, problem: expect.stringContaining('This is not valid JSON') })
  })

  it.each(['[]', '"text"', '5', 'null'])('that is a schema is a JSON object: %s is not sent', (text) => {
    expect(valueOf('output_schema', text)).toEqual({ ok: false, problem: 'A schema is a JSON object.' })
  })

  it('has what the service says of it at its field', () => {
    const refused = (...errors: { field: string; message: string }[]): ApiError =>
      new ApiError(422, 'VALIDATION_ERROR', 'It is not valid.', { errors } as never)
    const both = refused(
      { field: 'config.output_schema', message: 'is not a JSON Schema: no' },
      { field: 'config.max_turn_cost_usd', message: 'Input should be greater than 0' },
    )
    expect(problemsOf(both)).toEqual({ output_schema: 'The schema is not a JSON Schema: no', max_turn_cost_usd: 'Input should be greater than 0' })
    expect(problemsOf(refused({ field: 'name', message: 'too long' }))).toEqual({ all: 'It is not valid.' })
    expect(problemsOf(new ApiError(0, 'OFFLINE', 'The service cannot be reached.'))).toEqual({ all: 'The service cannot be reached.' })
  })
})

describe('what was used', () => {
  it.each([
    [0, '$0.00'], [0.00001, '< $0.0001'], [0.0123, '$0.0123'], [0.5, '$0.5000'], [1, '$1.00'], [1234.567, '$1,234.57'],
  ])('and cost %s is %s', (usd, words) => {
    expect(money(usd)).toBe(words)
  })

  it('is told with the kinds of tokens there were', () => {
    const usage = { input_tokens: 1200, output_tokens: 300, cached_input_tokens: 800, reasoning_tokens: 120 }
    expect(tokenWords(usage)).toEqual(['1.2k in (800 cached)', '300 out (120 reasoning)'])
    expect(tokenWords({ input_tokens: 5, output_tokens: 0 })).toEqual(['5 in', '0 out'])
  })
})
