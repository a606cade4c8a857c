// Who else has a shared session open now. A page says that it shows one, and is answered who else's does; nothing of it is
// told through events. A page in the background says nothing, so its reader is soon no longer named.

import { useEffect, useState } from 'preact/hooks'
import { ApiError, type SessionPresence } from '../../../client'
import { useParley } from '../../context'

/** More than these are a number. */
const MOST = 3
const AFTER_A_FAILURE_S = 20

/** asked: changes when somebody may have been let in or out by this page. */
export function Here({ sessionId, asked }: { sessionId: string; asked: unknown }) {
  const { say } = useParley()
  const people = useHere(sessionId, asked)
  if (people.length === 0) return null
  const words = people.length === 1 ? `${people[0]} has this session open` : `${people.slice(0, -1).join(', ')} and ${people.at(-1)} have this session open`
  return (
    // Where nothing hovers, a press tells the names.
    <button type="button" class="here quiet" title={words} onClick={() => say(`${words}.`)}>
      {people.slice(0, people.length > MOST + 1 ? MOST : MOST + 1).map((name) => (
        <span key={name} class="who">
          {initials(name)}
        </span>
      ))}
      {people.length > MOST + 1 ? <span class="who more">+{people.length - MOST}</span> : null}
      <span class="hidden">{words}</span>
    </button>
  )
}

function useHere(sessionId: string, asked: unknown): readonly string[] {
  const { api, live } = useParley()
  const [people, setPeople] = useState<readonly string[]>([])
  useEffect(() => {
    let isOver = false
    let timer: ReturnType<typeof setTimeout> | null = null
    let round = 0
    const announce = async (): Promise<void> => {
      if (timer !== null) clearTimeout(timer)
      timer = null
      if (document.hidden) return
      const mine = ++round
      let again: number | null
      let here: readonly string[] = []
      try {
        const told = await api.post<SessionPresence>(`/sessions/${encodeURIComponent(sessionId)}/presence`)
        here = told.here
        // In a session of one there is nobody to ask for, until it is shared.
        again = told.is_shared ? told.again_s : null
      } catch (error) {
        // Whoever may read it no more is told so by the conversation itself.
        again = error instanceof ApiError && !error.isPassing ? null : AFTER_A_FAILURE_S
      }
      if (isOver || mine !== round) return
      setPeople((before) => (before.length === here.length && before.every((name, place) => name === here[place]) ? before : here))
      if (again !== null) timer = setTimeout(() => void announce(), again * 1000)
    }
    const seen = (): void => void announce()
    void announce()
    document.addEventListener('visibilitychange', seen)
    const stop = live.listen({ access: (change) => (change.session_id === sessionId && change.access !== null ? seen() : undefined) })
    return () => {
      isOver = true
      if (timer !== null) clearTimeout(timer)
      document.removeEventListener('visibilitychange', seen)
      stop()
    }
  }, [api, live, sessionId, asked])
  return people
}

/** Of an address, of its name; of one word, its first two letters. */
export function initials(user: string): string {
  const words = (user.split('@')[0] ?? user).split(/[\s._-]+/u).filter((word) => word !== '')
  const letters = words.length > 1 ? words.slice(0, 2).map((word) => [...word][0] ?? '') : [...(words[0] ?? user)].slice(0, 2)
  return letters.join('').toLocaleUpperCase()
}
