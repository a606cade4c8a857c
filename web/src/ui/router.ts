// The current page is in the URL fragment, so that any static server serves every address of the console.

import { useLayoutEffect, useState } from 'preact/hooks'

export function usePath(): string[] {
  const [path, setPath] = useState(parts)
  // Before the page is painted: of a change between that and an ordinary effect nobody would hear.
  useLayoutEffect(() => {
    const changed = (): void => setPath(parts())
    window.addEventListener('hashchange', changed)
    return () => window.removeEventListener('hashchange', changed)
  }, [])
  return path
}

function parts(): string[] {
  return window.location.hash.replace(/^#\/?/, '').split('/').filter(Boolean).map(decoded)
}

/** A part that is no valid address stays as it was written, and its page says that there is no such thing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

export function link(...path: string[]): string {
  return `#/${path.map(encodeURIComponent).join('/')}`
}

export function go(...path: string[]): void {
  window.location.hash = link(...path)
}
