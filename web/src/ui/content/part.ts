// Parts of the page that are loaded when something first needs them. They are no part of the first load.

import { useEffect, useState } from 'preact/hooks'

export interface Part<T> {
  /** What has been loaded; null: not yet. */
  now: T | null
  load: () => Promise<T | null>
}

/** A part that cannot be loaded (offline, or the app was deployed anew) is asked for again by the next that needs it. */
export function partOf<T>(read: () => Promise<T>): Part<T> {
  let asked: Promise<T | null> | null = null
  const part: Part<T> = {
    now: null,
    load: () =>
      (asked ??= read().then(
        (loaded) => (part.now = loaded),
        () => (asked = null),
      )),
  }
  return part
}

/** The part once it is there; until then what depends on it is shown as it is written. */
export function usePart<T>(part: Part<T>, isNeeded: boolean): T | null {
  const [found, setFound] = useState<T | null>(part.now)
  useEffect(() => {
    if (!isNeeded || found !== null) return undefined
    let isCurrent = true
    void part.load().then((loaded) => isCurrent && setFound(loaded))
    return () => {
      isCurrent = false
    }
  }, [isNeeded, found])
  return found
}
