import { describe, expect, it } from 'vitest'
import { versionsOf } from '../src/ui/playground/trials'
import { isAddress } from '../src/ui/rooms'
import { payloadOf, targetOf, whereWords } from '../src/ui/unattended/target-fields'

describe('what a schedule or a trigger posts', () => {
  const target = { name: 'n', content: 'c', session_id: null, agent_id: 'clerk', config: { max_steps: 2 }, approval_mode: null }

  it('is sent back as it was, and names either a session or what new ones have', () => {
    expect(targetOf(target)).toEqual({ name: 'n', content: 'c', approval_mode: null, agent_id: 'clerk', config: { max_steps: 2 } })
    expect(targetOf({ ...target, session_id: 's', agent_id: null, config: {} })).toEqual({ name: 'n', content: 'c', approval_mode: null, session_id: 's' })
  })

  it('is told in words', () => {
    expect(whereWords(target)).toBe('a new session of clerk each time')
    expect(whereWords({ session_id: null, agent_id: null })).toBe('a new session of assistant each time')
    expect(whereWords({ session_id: 's', agent_id: null })).toBe('session s')
  })

  it.each([
    ['', { ok: true, value: null }],
    [' {"a": 1} ', { ok: true, value: { a: 1 } }],
    ['{', { ok: false }],
  ])('comes with a payload that is JSON: %s', (text, expected) => {
    expect(payloadOf(text)).toMatchObject(expected)
  })
})

it('an agent has every version up to its newest', () => {
  expect(versionsOf({ version: 3 })).toEqual([3, 2, 1])
})

it.each([
  ['', true],
  ['sessions/s', true],
  ['sessions/s/at/m', true],
  ['sessions/s/turns/t', true],
  ['sessions/s/turns/t/row', true],
  ['approvals/a', true],
  ['playground/a@1/b@2', true],
  ['policies/a/1', true],
  ['nowhere', false],
  ['constructor', false],
  ['sessions/s/at', false],
  ['sessions/s/other', false],
  ['sessions/s/turns', false],
  ['sessions/s/turns/t/row/more', false],
  ['approvals/a/b', false],
  ['schedules/x', false],
  ['playground/a@1/b@2/c@3', false],
])('an address has a page: %s', (address, expected) => {
  expect(isAddress(address.split('/').filter(Boolean))).toBe(expected)
})
