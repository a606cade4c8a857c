// Small components shared by all pages.

import type { ComponentChildren, JSX } from 'preact'
import { useLayoutEffect, useRef } from 'preact/hooks'
import { jsonText, type Session } from '../client'
import { words, type Loaded } from './context'

export function Loading({ what }: { what: string }) {
  return (
    <div class="state" role="status">
      <span class="spinner" aria-hidden="true" />
      Loading {what}…
    </div>
  )
}

export function Failed({ error, retry }: { error: unknown; retry?: (() => void) | undefined }) {
  return (
    <div class="state" role="alert">
      <p>{words(error)}</p>
      {retry === undefined ? null : (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  )
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="state empty">
      <p class="title">{title}</p>
      {children}
    </div>
  )
}

/** Shows one of the three states of loaded data. */
export function When<T>({ state, what, retry, children }: { state: Loaded<T>; what: string; retry?: () => void; children: (value: T) => ComponentChildren }) {
  if (state.phase === 'loading') return <Loading what={what} />
  if (state.phase === 'failed') return <Failed error={state.error} retry={retry} />
  return <>{children(state.value)}</>
}

/** The end of a list with more pages. */
export function ShowMore({ more }: { more: (() => void) | null }) {
  if (more === null) return null
  return (
    <p>
      <button type="button" onClick={more}>
        Show more
      </button>
    </p>
  )
}

const TONES: Record<string, string> = {
  ACTIVE: 'good', completed: 'good', approved: 'good', live: 'good', same: 'good',
  SUSPENDED: 'wait', waiting_approval: 'wait', waiting_input: 'wait', pending: 'wait', queued: 'wait', reconnecting: 'wait', timed_out: 'wait', changed: 'wait',
  failed: 'bad', rejected: 'bad', missing: 'bad', refused: 'bad',
  running: 'busy', streaming: 'busy', connecting: 'busy',
}

export function Badge({ status, label }: { status: string; label?: string }) {
  return <span class={`badge ${TONES[status] ?? 'calm'}`}>{label ?? status.replace('_', ' ').toLowerCase()}</span>
}

/** What a session is called: its name, else the beginning of its first message. */
export function titleOf({ name, title }: Pick<Session, 'name' | 'title'>): string {
  return name ?? title ?? 'Untitled'
}

export function Time({ at }: { at: string }) {
  const date = new Date(at)
  return (
    <time dateTime={at} title={date.toLocaleString()}>
      {when(date)}
    </time>
  )
}

/** A deadline, with day and hour. */
export function Deadline({ at }: { at: string }) {
  const date = new Date(at)
  const isToday = date.toDateString() === new Date().toDateString()
  const hour = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
  return <time dateTime={at}>{isToday ? hour : `${when(date)}, ${hour}`}</time>
}

export function when(date: Date, now = new Date()): string {
  const isToday = date.toDateString() === now.toDateString()
  return isToday
    ? date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
    : date.toLocaleDateString([], { month: 'short', day: 'numeric', ...(date.getFullYear() === now.getFullYear() ? {} : { year: 'numeric' }) })
}

/** "3 h 20 min", "45 s": two units at most. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

export function JsonText({ value, label }: { value: unknown; label: string }) {
  const text = typeof value === 'string' ? value : jsonText(value, 2)
  return (
    <pre class="json" tabIndex={0} role="region" aria-label={label}>
      {text}
    </pre>
  )
}

/** A modal dialog of the browser's own. Open exactly as long as it is rendered: shown before it is painted, so that no key
 * goes to the page behind, and closed before it is taken away, which gives the focus back. A field marked `autofocus` is
 * focused first; else the Close button would be. */
export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => {
    const dialog = element.current
    dialog?.showModal()
    return () => dialog?.close()
  }, [])
  return (
    <dialog
      ref={element}
      aria-label={title}
      // Escape. The browser would hide it at once and report it later, and a click in between would be lost.
      onCancel={(event) => {
        event.preventDefault()
        close()
      }}
      // The browser closes it anyway at a second Escape. After the clean-up above this handler is removed.
      onClose={() => {
        if (element.current !== null) close()
      }}
      onClick={(event) => {
        if (event.target === element.current) close()
      }}
    >
      <header>
        <h2>{title}</h2>
        <button type="button" class="quiet icon" aria-label="Close" onClick={close}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </dialog>
  )
}

const PATHS: Record<string, string> = {
  chat: 'M4 5h16v11H9l-5 4z',
  check: 'm5 12.5 4.5 4.5L19 7',
  chart: 'M5 19V11M12 19V5M19 19v-6',
  close: 'm6 6 12 12M18 6 6 18',
  plus: 'M12 5v14M5 12h14',
  back: 'm14 6-6 6 6 6',
  star: 'm12 4 2.4 5 5.6.8-4 3.9.9 5.5L12 16.6l-4.900 2.6.9-5.500-4-3.900 5.600-.8z',
  again: 'M5 12a7 7 0 1 1 2 5M5 18v-4h4',
  fork: 'M7 4v6a4 4 0 0 0 4 4h6M17 4v16M14 17l3 3 3-3',
  copy: 'M8 8h11v11H8zM5 16V5h11',
  stop: 'M7 7h10v10H7z',
  send: 'M5 12h13M13 6l6 6-6 6',
  clip: 'M18 11l-6.500 6.500a3.500 3.500 0 0 1-5-5L13 6a2.300 2.300 0 0 1 3.300 3.300l-6.500 6.500',
  more: 'M6 12h.01M12 12h.01M18 12h.01',
  tool: 'M14 6a4 4 0 0 0 5 5l-8.500 8.500a2 2 0 0 1-3-3L16 8',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 3v1M12 20v1M3 12h1M20 12h1',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  pin: 'M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v5',
  tune: 'M4 8h9M19 8h1M4 16h1M11 16h9M16 5.500v5M8 13.500v5',
  down: 'm6 10 6 6 6-6',
  tag: 'M4 4h8l8 8-8 8-8-8zM8 8h.01',
  bell: 'M6 16V11a6 6 0 0 1 12 0v5l1.500 2h-15zM10 20.500h4',
  keys: 'M3 7h18v11H3zM7 11h.01M11 11h.01M15 11h.01M8 14.500h8',
  people: 'M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7M3 20a6 6 0 0 1 12 0M16 4.500a3.500 3.500 0 0 1 0 6.500M18 14.500a6 6 0 0 1 3 5.500',
}

export function Icon({ name }: { name: keyof typeof PATHS & string }) {
  return (
    <svg class="i" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  )
}

export function IconButton({ label, icon, ...rest }: { label: string; icon: string } & JSX.IntrinsicElements['button']) {
  return (
    <button type="button" class="quiet icon" aria-label={label} title={label} {...rest}>
      <Icon name={icon} />
    </button>
  )
}
