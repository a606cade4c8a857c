import { expect, it } from 'vitest'
import type { Api } from '../src/client/api'
import { Live } from '../src/client/live'

/** A page that is connected, and the requests of its memberships, each answered when the test says so. */
function connected(): { live: Live; asked: string[]; answer: () => Promise<void> } {
  const asked: string[] = []
  const waiting: (() => void)[] = []
  const api = {
    baseUrl: 'http://localhost',
    post: (path: string) => {
      asked.push(path)
      return new Promise((resolve) => waiting.push(() => resolve({ is_joined: true })))
    },
  } as unknown as Api
  const live = new Live(api)
  Object.assign(live, { state: 'live', connection: { connectionId: 'c' } })
  const answer = async (): Promise<void> => {
    waiting.shift()?.()
    await settled()
  }
  return { live, asked, answer }
}

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve))

it('who comes back while the leave is on its way joins after it', async () => {
  const { live, asked, answer } = connected()
  const joining = live.join('s')
  await settled()
  await answer()
  const leaving = (await joining)()
  await settled()
  const back = live.join('s')
  await settled()
  expect(asked).toEqual(['/sessions/s/subscribe', '/sessions/s/unsubscribe'])
  await answer()
  await leaving
  expect(asked.at(-1)).toBe('/sessions/s/subscribe')
  await answer()
  await back
  expect(asked).toHaveLength(3)
})

it('a leave whose turn comes after its page has come back is not sent', async () => {
  const { live, asked, answer } = connected()
  const joining = live.join('s')
  await settled()
  await answer()
  const first = await joining
  const leaving = first()
  await settled()
  const again = live.join('s')
  await settled()
  await answer() // the leave
  await answer() // the second join
  const second = await again
  const gone = second()
  const third = live.join('s')
  await settled()
  await Promise.all([leaving, gone])
  await answer()
  await third
  const verbs = asked.map((path) => path.split('/').at(-1))
  expect(verbs).toEqual(['subscribe', 'unsubscribe', 'subscribe', 'subscribe'])
})
