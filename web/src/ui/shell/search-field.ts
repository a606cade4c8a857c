// The search field is in the list of sessions, which may have to be drawn first.

import type { RefObject } from 'preact'
import { useLayoutEffect, useRef } from 'preact/hooks'
import { go, usePath } from '../router'

let field: HTMLInputElement | null = null
let isWanted = false

/** Puts the focus in the search field: at once, or when the page that has it is drawn. */
export function goToSearch(): void {
  if (field?.checkVisibility() === true) return field.focus()
  isWanted = true
  go('sessions')
}

export function useSearchField(): RefObject<HTMLInputElement | null> {
  const path = usePath().join('/')
  const drawn = useRef<HTMLInputElement>(null)
  useLayoutEffect(() => {
    field = drawn.current
    if (isWanted) {
      isWanted = false
      field?.focus()
    }
    return () => {
      field = null
    }
  }, [path])
  return drawn
}
