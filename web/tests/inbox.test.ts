import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Api, Live } from '../src/client'
import { Inbox } from '../src/ui/approvals/inbox'

beforeEach(() => {
  vi.useFakeTimers()
})

afterEach(() => {
  vi.useRealTimers()
})

it('shows what was asked for last, whichever answer comes last', async () => {
  const answers: ((pending: unknown[]) => void)[] = []
  const api = { all: () => new Promise((resolve) => answers.push(resolve)) } as unknown as Api
  let hear: (event: { type: string }) => void = () => undefined
  const live = {
    current: 'live',
    listen: (heard: { event: typeof hear }) => {
      hear = heard.event
      return () => undefined
    },
  } as unknown as Live
  const inbox = new Inbox(api, live)
  inbox.start()
  await vi.advanceTimersByTimeAsync(1)
  hear({ type: 'tool_call.approved' })
  await vi.advanceTimersByTimeAsync(200)
  expect(answers).toHaveLength(2)
  answers[1]!([])
  await vi.advanceTimersByTimeAsync(1)
  answers[0]!([{ id: 'decided' }])
  await vi.advanceTimersByTimeAsync(1)
  expect(inbox.current).toEqual({ pending: [], isLoaded: true, error: null })
  inbox.stop()
})
