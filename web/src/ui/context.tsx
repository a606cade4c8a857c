// What every page needs: the API, the live connection, who is calling, and a place for short messages.

import { createContext } from 'preact'
import { useContext, useEffect, useState } from 'preact/hooks'
import { ApiError, type Api, type Live, type LiveState } from '../client'
import type { Identity } from './identity'
import type { Inbox } from './approvals/inbox'

export interface Parley {
  api: Api
  live: Live
  inbox: Inbox
  me: Identity | null
  say: (text: string, kind?: 'info' | 'error') => void
  /** Rises when the list of sessions may have changed. */
  touchSessions: () => void
  sessionsTouched: number
}

export const ParleyContext = createContext<Parley | null>(null)

export function useParley(): Parley {
  const parley = useContext(ParleyContext)
  if (parley === null) throw new Error('outside of the console')
  return parley
}

export function useLiveState(): LiveState {
  const { live } = useParley()
  const [state, setState] = useState(live.current)
  useEffect(() => live.listen({ state: setState }), [live])
  return state
}

export function words(error: unknown): string {
  if (error instanceof ApiError) return error.detail
  return error instanceof Error ? error.message : String(error)
}

/** Run something a person asked for; what goes wrong is said. Tells whether it went well. */
export function useAction(): (work: () => Promise<unknown>) => Promise<boolean> {
  const { say } = useParley()
  return async (work) => {
    try {
      await work()
      return true
    } catch (error) {
      say(words(error), 'error')
      return false
    }
  }
}

export type Loaded<T> = { phase: 'loading' } | { phase: 'failed'; error: unknown } | { phase: 'ready'; value: T }

/** Load something, again whenever a dependency changes; what was shown stays until there is something newer. */
export function useLoaded<T>(load: () => Promise<T>, dependencies: unknown[]): [Loaded<T>, () => void] {
  const [state, setState] = useState<Loaded<T>>({ phase: 'loading' })
  const [round, setRound] = useState(0)
  useEffect(() => {
    let isCurrent = true
    load().then(
      (value) => isCurrent && setState({ phase: 'ready', value }),
      (error: unknown) => isCurrent && setState({ phase: 'failed', error }),
    )
    return () => {
      isCurrent = false
    }
  }, [...dependencies, round])
  return [state, () => setRound((before) => before + 1)]
}

/** The time, once a second: for what counts down. */
export function useNow(isOn: boolean): number {
  const [now, setNow] = useState(Date.now())
  useEffect(() => {
    if (!isOn) return undefined
    setNow(Date.now())
    const timer = setInterval(() => setNow(Date.now()), 1000)
    return () => clearInterval(timer)
  }, [isOn])
  return now
}
