// Keys that work everywhere in the console.

import { useLayoutEffect } from 'preact/hooks'

const OFF_KEY = 'parley.single-keys'

/** What a key does, for the help sheet: [keys, words]. */
export const SHORTCUTS: readonly [string, string][] = [
  ['Ctrl K', 'Go to a session or room, or do something'],
  ['?', 'This list'],
  ['N', 'A new session'],
  ['/', 'Search'],
  ['Esc', 'Stop the turn that runs; close what is open'],
  ['Enter', 'Send the message'],
  ['Shift Enter', 'A new line in the message'],
  ['← →', 'Between other answers, at ‹1/2›'],
]

/** Whether keys without Ctrl do something. They can be turned off: people who speak to their computer type them by accident. */
export function hasSingleKeys(): boolean {
  return localStorage.getItem(OFF_KEY) !== 'off'
}

export function setSingleKeys(isOn: boolean): void {
  if (isOn) localStorage.removeItem(OFF_KEY)
  else localStorage.setItem(OFF_KEY, 'off')
}

export function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches('input, textarea, select'))
}

/** Whether a dialog or a menu is open, to which the key belongs. */
export function isBehind(): boolean {
  return document.querySelector('dialog[open], details.menu[open]') !== null
}

export interface Commands {
  palette: () => void
  help: () => void
  create: () => void
  search: () => void
}

export function useKeys({ palette, help, create, search }: Commands): void {
  // Before the page is painted: who sees it may press a key.
  useLayoutEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      if (event.isComposing || event.defaultPrevented) return
      if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === 'k') {
        // Also over an open dialog the browser would otherwise go to its own search.
        event.preventDefault()
        if (!isBehind()) palette()
        return
      }
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || isBehind() || !hasSingleKeys()) return
      const command = { '?': help, n: create, '/': search }[event.key]
      if (command === undefined) return
      event.preventDefault()
      command()
    }
    window.addEventListener('keydown', pressed)
    return () => window.removeEventListener('keydown', pressed)
  }, [])
}
