import { useEffect, useState } from 'preact/hooks'
import { SessionFeed, type FeedState } from '../../client'
import { useParley } from '../context'

/** A session's feed while the page shows it; renders at most once per frame, however fast events arrive. */
export function useFeed(sessionId: string): [SessionFeed | null, FeedState] {
  const { api, live } = useParley()
  const [feed, setFeed] = useState<SessionFeed | null>(null)
  const [state, setState] = useState<FeedState>({ phase: 'loading' })
  useEffect(() => {
    const opened = new SessionFeed(api, live, sessionId)
    let frame: number | null = null
    setFeed(opened)
    setState({ phase: 'loading' })
    const draw = (): void => {
      if (frame !== null) return
      const now = (): void => {
        frame = null
        setState(opened.current)
      }
      // A hidden page gets no frames, but must be current when it is visible again.
      frame = document.hidden ? window.setTimeout(now, 250) : requestAnimationFrame(now)
    }
    const unsubscribe = opened.subscribe(draw)
    opened.start()
    return () => {
      unsubscribe()
      void opened.close()
    }
  }, [api, live, sessionId])
  return [feed, state]
}
