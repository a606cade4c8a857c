// Shared by all pages: the API, the live connection, the caller, and short notifications.

import { createContext } from 'preact'
import { useContext, useEffect, useState } from 'preact/hooks'
import { ApiError, jsonText, type Access, type Api, type Live, type LiveState, type Page, type Participant, type Query } from '../client'
import type { Identity } from './identity'
import type { Inbox } from './approvals/inbox'

export interface Parley {
  api: Api
  live: Live
  inbox: Inbox
  me: Identity | null
  say: (text: string, kind?: 'info' | 'error') => void
  /** Increases when the list of sessions may have changed. */
  touchSessions: () => void
  sessionsTouched: number
  /** Open the dialog that makes one. */
  newSession: () => void
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
  useEffect(() => {
    setState(live.current) // it may have changed since it was drawn
    return live.listen({ state: setState })
  }, [live])
  return state
}

export function words(error: unknown): string {
  if (error instanceof ApiError) return error.detail
  return error instanceof Error ? error.message : String(error)
}

const running = new Set<string>()
const refusals = new Set<() => void>()

/** Be called when an action of the user was refused: what they may do may have changed. */
export function useRefusals(refused: () => void, dependencies: unknown[]): void {
  useEffect(() => {
    refusals.add(refused)
    return () => void refusals.delete(refused)
  }, dependencies)
}

/** What the caller may do in a session, as of now; null: not known yet. */
export function useAccess(sessionId: string): Access | null {
  const { api, live, me } = useParley()
  const user = me?.name ?? null
  const path = user === null ? null : `/sessions/${encodeURIComponent(sessionId)}/participants/${encodeURIComponent(user)}`
  const [state, again] = useLoaded(() => (path === null ? Promise.resolve(null) : api.get<Participant>(path)), [api, path])
  useEffect(() => live.listen({ access: (change) => (change.session_id === sessionId && change.access !== null ? again() : undefined) }), [live, sessionId])
  useRefusals(again, [])
  return state.phase === 'ready' ? (state.value?.access ?? null) : null
}

/**
 * Run a user's action and show its error. Returns whether it succeeded. once: names an action that makes something; while
 * it runs, another of the same name (the second half of a double click) does nothing and has not succeeded.
 */
export function useAction(): (work: () => Promise<unknown>, once?: string) => Promise<boolean> {
  const { say } = useParley()
  return async (work, once) => {
    if (once !== undefined && running.has(once)) return false
    if (once !== undefined) running.add(once)
    try {
      await work()
      return true
    } catch (error) {
      say(words(error), 'error')
      if (error instanceof ApiError && (error.status === 403 || error.status === 404)) for (const refused of refusals) refused()
      return false
    } finally {
      if (once !== undefined) running.delete(once)
    }
  }
}

export type Loaded<T> = { phase: 'loading' } | { phase: 'failed'; error: unknown } | { phase: 'ready'; value: T }

/** Load data, again whenever a dependency changes; the old data stays until the new data has arrived. */
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

export interface Pages<T> {
  state: Loaded<Page<T>>
  retry: () => void
  /** Loads one more page; null when there is none. */
  more: (() => void) | null
}

/**
 * A list that grows page by page on request. When one of `again` changes, the whole shown part is read again at once,
 * so that a changed order shows no item twice.
 */
export function usePages<T>(path: string, query: Query, size: number, again: unknown[]): Pages<T> {
  const { api } = useParley()
  const asked = jsonText([path, query])
  const [wanted, setWanted] = useState({ asked, count: size })
  const count = wanted.asked === asked ? wanted.count : size
  const [state, retry] = useLoaded(() => api.upTo<T>(path, query, count), [api, asked, count, ...again])
  const hasMore = state.phase === 'ready' && state.value.next_cursor !== null
  // A second click while a page is loading has no effect.
  const more = (): void => {
    if (hasMore && state.value.items.length >= count) setWanted({ asked, count: count + size })
  }
  return { state, retry, more: hasMore ? more : null }
}

/** The current time, updated every second, for countdowns. */
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
