// How many of one's sessions wait for one's answer to a question, as of a server that a tool asked.

import { ApiError, type Api, type ListedSession, type Live, type Page } from '../../client'

/** Events reach this page only from the session that it shows; the others are looked at now and then. */
const AGAIN_MS = 30_000
const SOON_MS = 300
/** Of the sessions that changed last. */
const LOOKED_AT = 50

/** A session of somebody else asks them. */
export function waitingForMe(sessions: readonly Pick<ListedSession, 'access' | 'open_turn'>[]): number {
  return sessions.filter(({ access, open_turn }) => access === 'owner' && open_turn === 'waiting_input').length
}

/** Tells the number at first and whenever it has changed; returns what ends that. */
export function watchQuestions(api: Api, live: Live, tell: (count: number) => void): () => void {
  let known: number | null = null
  let isOver = false
  let soon: ReturnType<typeof setTimeout> | null = null
  const look = async (): Promise<void> => {
    try {
      const { items } = await api.get<Page<ListedSession>>('/sessions', { sort: '-updated_at', limit: LOOKED_AT })
      const count = waitingForMe(items)
      if (isOver || count === known) return
      known = count
      tell(count)
    } catch (error) {
      if (!(error instanceof ApiError)) throw error // it is looked at again
    }
  }
  const lookSoon = (): void => {
    if (soon !== null) clearTimeout(soon)
    soon = setTimeout(() => void look(), SOON_MS)
  }
  const stop = live.listen({
    event: ({ type }) => {
      if (type === 'tool_call.waiting' || type === 'tool_call.answered' || type === 'stream.ended') lookSoon()
    },
  })
  const timer = setInterval(() => void look(), AGAIN_MS)
  lookSoon()
  return () => {
    isOver = true
    stop()
    clearInterval(timer)
    if (soon !== null) clearTimeout(soon)
  }
}
