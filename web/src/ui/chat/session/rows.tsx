// The sessions of the list: grouped by day, each with its newest text and what it waits for.

import type { ListedSession } from '../../../client'
import { Badge, Icon, Time, titleOf } from '../../bits'
import { memo } from '../../memo'
import { link } from '../../router'

interface Props {
  sessions: readonly ListedSession[]
  /** Those that the caller pinned, which are in no other group. */
  pinned: readonly ListedSession[]
  current: string | null
  /** Sessions in which a call waits for the caller's own decision. */
  mine: ReadonlySet<string>
}

export function SessionRows({ sessions, pinned, current, mine }: Props) {
  const groups: { name: string; of: ListedSession[] }[] = pinned.length === 0 ? [] : [{ name: 'Pinned', of: [...pinned] }]
  const now = new Date()
  for (const session of sessions) {
    const name = dayGroup(new Date(session.updated_at), now)
    const last = groups.at(-1)
    if (last?.name === name) last.of.push(session)
    else groups.push({ name, of: [session] })
  }
  return (
    <>
      {groups.map(({ name, of }) => (
        <section key={name} class="day" aria-label={name}>
          <h3>{name}</h3>
          <ul>
            {of.map((session) => (
              <Row key={session.id} session={session} isCurrent={session.id === current} isMine={mine.has(session.id)} />
            ))}
          </ul>
        </section>
      ))}
    </>
  )
}

const Row = memo(function Row({ session, isCurrent, isMine }: { session: ListedSession; isCurrent: boolean; isMine: boolean }) {
  const waits = waitOf(session, isMine)
  const isOver = session.status === 'ENDED' || session.status === 'SUSPENDED'
  return (
    <li>
      <a href={link('sessions', session.id)} aria-current={isCurrent ? 'page' : undefined}>
        <span class="line">
          <span class="name">
            {session.pinned ? <Icon name="pin" /> : null}
            {titleOf(session)}
          </span>
          <Time at={session.updated_at} />
        </span>
        {session.preview === null ? null : <span class="preview">{session.preview}</span>}
        {waits === null && !isOver && session.access === 'owner' && session.tags.length === 0 ? null : (
          <span class="meta">
            {waits}
            {isOver ? <Badge status={session.status} /> : null}
            {session.access === 'owner' ? null : (
              <span class="shared" title="Shared with you">
                <Icon name="people" />
                <span class="hidden">Shared with you</span>
              </span>
            )}
            {session.tags.slice(0, 3).map((name) => (
              <span key={name} class="tag">
                <span>{name}</span>
              </span>
            ))}
          </span>
        )}
      </a>
    </li>
  )
})

function waitOf({ open_turn }: ListedSession, isMine: boolean) {
  if (isMine) return <Badge status="pending" label="needs your approval" />
  if (open_turn === 'waiting_approval') return <Badge status="pending" label="needs approval" />
  if (open_turn === 'waiting_input') return <Badge status="pending" label="asks something" />
  return open_turn === null ? null : <Badge status="running" label="working" />
}

const DAY_MS = 24 * 3600 * 1000

/** "Today", "Yesterday", "Previous 7 days", "Previous 30 days", else the month. */
export function dayGroup(at: Date, now: Date): string {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime()
  // Rounded, since a day on which the clocks change has 23 or 25 hours.
  const days = Math.round((midnight - new Date(at.getFullYear(), at.getMonth(), at.getDate()).getTime()) / DAY_MS)
  if (days <= 0) return 'Today'
  if (days === 1) return 'Yesterday'
  if (days <= 7) return 'Previous 7 days'
  if (days <= 30) return 'Previous 30 days'
  return at.toLocaleDateString([], { month: 'long', year: 'numeric' })
}
