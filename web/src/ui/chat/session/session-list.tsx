import { useEffect, useMemo, useState } from 'preact/hooks'
import type { ListedSession, Page, SearchHit, SessionStatus, Tag } from '../../../client'
import { useInbox } from '../../approvals/inbox-page'
import { Empty, IconButton, ShowMore, When } from '../../bits'
import { useLiveState, useLoaded, usePages, useParley } from '../../context'
import { link } from '../../router'
import { useSearchField } from '../../shell/search-field'
import { MOST_PINS } from './pins'
import { SessionRows } from './rows'

const STATUSES: SessionStatus[] = ['CREATED', 'ACTIVE', 'SUSPENDED', 'ENDED']
const TYPING_MS = 250

export function SessionList({ current }: { current: string | null }) {
  const { api, sessionsTouched, newSession } = useParley()
  const liveState = useLiveState()
  const searchField = useSearchField()
  const [typed, setTyped] = useState('')
  const [q, setQ] = useState('')
  const [status, setStatus] = useState('')
  const [tag, setTag] = useState('')
  useEffect(() => {
    const timer = setTimeout(() => setQ(typed.trim()), TYPING_MS)
    return () => clearTimeout(timer)
  }, [typed])
  const { pending } = useInbox()
  const waiting = pending.map(({ id }) => id).join(' ')
  const mine = useMemo(() => new Set(pending.map(({ session_id }) => session_id)), [waiting])
  const again = [sessionsTouched, waiting, liveState === 'live']
  const sessions = usePages<ListedSession>('/sessions', { q, status, tag, pinned: 'false', sort: '-updated_at' }, 100, again)
  const pins = usePages<ListedSession>('/sessions', { q, status, tag, pinned: 'true', sort: '-updated_at' }, MOST_PINS, again)
  const pinned = pins.state.phase === 'ready' ? pins.state.value.items : []
  const [tags] = useLoaded(() => api.all<Tag>('/tags'), [api, sessionsTouched])
  const [hits] = useLoaded(
    async () => ({ q, items: q.length < 2 ? [] : (await api.get<Page<SearchHit>>('/search', { q, limit: 20 })).items }),
    [api, q],
  )
  // Of the messages, too: sessions are found by their names alone. Until both are known for these words, nothing is said.
  const found = hits.phase === 'ready' ? hits.value.items : []
  const isSearched = hits.phase === 'failed' || (hits.phase === 'ready' && hits.value.q === q)
  useEffect(() => {
    const readAgain = (): void => {
      sessions.retry()
      pins.retry()
    }
    window.addEventListener('focus', readAgain)
    return () => window.removeEventListener('focus', readAgain)
  }, [])
  return (
    <nav class="sessions" aria-label="Sessions">
      <header>
        <h2>Sessions</h2>
        <IconButton label="New session" icon="plus" class="primary icon" onClick={newSession} />
      </header>
      <div class="filters" role="search">
        <input ref={searchField} type="search" aria-label="Search sessions and messages" placeholder="Search" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
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
            page.items.length + pinned.length === 0 && q !== '' && (found.length > 0 || !isSearched) ? null : page.items.length + pinned.length === 0 ? (
              <Empty title={q === '' && status === '' && tag === '' ? 'No session yet' : 'Nothing found'}>
                {q === '' && status === '' && tag === '' ? (
                  <button type="button" class="primary" onClick={newSession}>
                    Start one
                  </button>
                ) : null}
              </Empty>
            ) : (
              <>
                <SessionRows sessions={page.items} pinned={pinned} current={current} mine={mine} />
                <ShowMore more={sessions.more} />
              </>
            )
          }
        </When>
        {found.length > 0 ? <Hits hits={found} /> : null}
      </div>
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
