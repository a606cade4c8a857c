// Sessions that the user keeps at the top of the list.

import type { ListedSession, Page } from '../../../client'
import { useAction, useLoaded, useParley } from '../../context'

/** As many as the service lets a user pin. */
export const MOST_PINS = 100

export interface Pin {
  isOn: boolean
  toggle: () => void
}

/** Whether a session is pinned, and the way to change that; null: not known yet, or no session. */
export function usePin(sessionId: string | null): Pin | null {
  const { api, say, sessionsTouched, touchSessions } = useParley()
  const act = useAction()
  const [pinned] = useLoaded(
    () => (sessionId === null ? Promise.resolve(null) : api.get<Page<ListedSession>>('/sessions', { pinned: 'true', limit: MOST_PINS })),
    [api, sessionId === null, sessionsTouched],
  )
  if (sessionId === null || pinned.phase !== 'ready' || pinned.value === null) return null
  const isOn = pinned.value.items.some(({ id }) => id === sessionId)
  const path = `/sessions/${encodeURIComponent(sessionId)}/pin`
  const toggle = (): void =>
    void act(async () => {
      if (isOn) await api.delete(path)
      else await api.put(path)
      touchSessions()
      say(isOn ? 'Taken off the top of your list.' : 'Pinned to the top of your list.')
    }, `pin ${sessionId}`)
  return { isOn, toggle }
}
