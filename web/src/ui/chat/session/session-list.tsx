import { useEffect, useState } from 'preact/hooks'
import type { Page, SearchHit, Session, SessionStatus, Tag } from '../../../client'
import { Badge, Empty, IconButton, ShowMore, Time, When } from '../../bits'
import { useLiveState, useLoaded, usePages, useParley } from '../../context'
import { link } from '../../router'
import { NewSession } from './new-session'

const STATUSES: SessionStatus[] = ['CREATED', 'ACTIVE', 'SUSPENDED', 'ENDED']
const TYPING_MS = 250

export function SessionList({ current }: { current: string | null }) {
  const { api, sessionsTouched } = useParley()
  const liveState = useLiveState()
  const [typed, setTyped] = useState('')
  const [q, setQ] = useState('')
  const [status, setStatus] = useState('')
  const [tag, setTag] = useState('')
  const [isMaking, setMaking] = useState(false)
  useEffect(() => {
    const timer = setTimeout(() => setQ(typed.trim()), TYPING_MS)
    return () => clearTimeout(timer)
  }, [typed])
  const sessions = usePages<Session>('/sessions', { q, status, tag, sort: '-updated_at' }, 100, [sessionsTouched, liveState === 'live'])
  const [tags] = useLoaded(() => api.all<Tag>('/tags'), [api, sessionsTouched])
  const [hits] = useLoaded(
    () => (q.length < 2 ? Promise.resolve(null) : api.get<Page<SearchHit>>('/search', { q, limit: 20 })),
    [api, q],
  )
  useEffect(() => {
    window.addEventListener('focus', sessions.retry)
    return () => window.removeEventListener('focus', sessions.retry)
  }, [])
  return (
    <nav class="sessions" aria-label="Sessions">
      <header>
        <h2>Sessions</h2>
        <IconButton label="New session" icon="plus" class="primary icon" onClick={() => setMaking(true)} />
      </header>
      <div class="filters" role="search">
        <input type="search" aria-label="Search sessions and messages" placeholder="Search" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
        <div class="pair">
          <select aria-label="Status" value={status} onChange={(event) => setStatus(event.currentTarget.value)}>
            <option value="">Any status</option>
            {STATUSES.map((name) => (
              <option key={name} value={name}>
                {name.toLowerCase()}
              </option>
            ))}
          </select>
          <select aria-label="Tag" value={tag} onChange={(event) => setTag(event.currentTarget.value)}>
            <option value="">Any tag</option>
            {tags.phase === 'ready' ? tags.value.map(({ name }) => <option key={name}>{name}</option>) : null}
          </select>
        </div>
      </div>
      <div class="rows">
        <When state={sessions.state} what="sessions" retry={sessions.retry}>
          {(page) =>
            page.items.length === 0 ? (
              <Empty title={q === '' && status === '' && tag === '' ? 'No session yet' : 'Nothing found'}>
                {q === '' && status === '' && tag === '' ? (
                  <button type="button" class="primary" onClick={() => setMaking(true)}>
                    Start one
                  </button>
                ) : null}
              </Empty>
            ) : (
              <>
                <ul>
                  {page.items.map((session) => (
                    <li key={session.id}>
                      <a href={link('sessions', session.id)} aria-current={session.id === current ? 'page' : undefined}>
                        <span class="name">{session.name ?? 'Untitled'}</span>
                        <span class="meta">
                          <Badge status={session.status} />
                          {session.tags.slice(0, 3).map((name) => (
                            <span key={name} class="tag">
                              {name}
                            </span>
                          ))}
                          <Time at={session.updated_at} />
                        </span>
                      </a>
                    </li>
                  ))}
                </ul>
                <ShowMore more={sessions.more} />
              </>
            )
          }
        </When>
        {hits.phase === 'ready' && hits.value !== null && hits.value.items.length > 0 ? <Hits hits={hits.value.items} /> : null}
      </div>
      {isMaking ? <NewSession close={() => setMaking(false)} /> : null}
    </nav>
  )
}

function Hits({ hits }: { hits: SearchHit[] }) {
  return (
    <section aria-label="Found in messages">
      <h3>In messages</h3>
      <ul>
        {hits.map((hit) => (
          <li key={hit.message_id}>
            <a href={link('sessions', hit.session_id, 'at', hit.message_id)}>
              <span class="name">{hit.session_name ?? 'Untitled'}</span>
              <span class="snippet">{highlighted(hit)}</span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  )
}

function highlighted({ snippet, highlights }: SearchHit) {
  const points = [...snippet] // the API counts code points
  const parts = []
  let from = 0
  for (const { start, end } of highlights) {
    parts.push(points.slice(from, start).join(''), <mark key={start}>{points.slice(start, end).join('')}</mark>)
    from = end
  }
  return [...parts, points.slice(from).join('')]
}
