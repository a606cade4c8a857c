// Rooms that are loaded when they are gone to, so that the first page has only what it shows.

import type { ComponentType } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { Empty, Loading } from '../bits'

/** A component whose code is loaded when it is first drawn. A part that is gone is of an older version of the console. */
export function later<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let Loaded: ComponentType<P> | null = null
  return function Later(props: P) {
    const [state, setState] = useState<'loading' | 'ready' | 'failed'>(Loaded === null ? 'loading' : 'ready')
    useEffect(() => {
      if (Loaded !== null) return undefined
      let isCurrent = true
      load().then(
        (component) => {
          Loaded = component
          if (isCurrent) setState('ready')
        },
        () => isCurrent && setState('failed'),
      )
      return () => {
        isCurrent = false
      }
    }, [])
    if (Loaded !== null) return <Loaded {...props} />
    if (state === 'loading') return <Loading what="this room" />
    return (
      <div class="page">
        <Empty title="This room could not be loaded">
          <p>The connection may be lost, or there is a new version of the console.</p>
          <button type="button" class="primary" onClick={() => window.location.reload()}>
            Load the page again
          </button>
        </Empty>
      </div>
    )
  }
}
