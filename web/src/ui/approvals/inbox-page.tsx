import { useEffect, useRef, useState } from 'preact/hooks'
import { jsonText, type Approval } from '../../client'
import { Badge, Empty, Failed, JsonText, Loading, ShowMore, Time, When, span } from '../bits'
import { useNow, usePages, useParley } from '../context'
import { link } from '../router'
import { asShown } from './arguments-diff'
import { CallContext } from './call-context'
import { whom } from './deciding'
import type { InboxState } from './inbox'
import { isTyping, QuickDecision, useDecisionKeys } from './quick-decision'
import { revealed } from './revealed'

export function useInbox(): InboxState {
  const { inbox } = useParley()
  const [state, setState] = useState(inbox.current)
  useEffect(() => {
    setState(inbox.current)
    return inbox.subscribe(setState)
  }, [inbox])
  return state
}

const ASK_MS = 15_000

export function InboxPage() {
  const { inbox } = useParley()
  const { pending, isLoaded, error } = useInbox()
  const now = useNow(pending.length > 0)
  const decided = usePages<Approval>('/approvals', {}, 60, [pending])
  const list = useRef<HTMLUListElement>(null)
  const heading = useRef<HTMLHeadingElement>(null)
  const cards = (): HTMLElement[] => [...(list.current?.querySelectorAll<HTMLElement>(':scope > li > article') ?? [])]
  const move = (from: HTMLElement | null, by: 1 | -1): boolean => {
    const all = cards()
    const next = all[from === null ? 0 : all.indexOf(from) + by]
    next?.focus()
    return next !== undefined
  }
  return (
    <div class="page">
      <h1>Approvals</h1>
      <section aria-label="Waiting">
        <h2 ref={heading} tabIndex={-1}>
          Waiting for you {pending.length > 0 ? <span class="count">{pending.length}</span> : null}
        </h2>
        {error !== null ? <Failed error={error} retry={() => inbox.soon(0)} /> : null}
        {!isLoaded && error === null ? <Loading what="the inbox" /> : null}
        {isLoaded && pending.length === 0 ? (
          <Empty title="No pending approvals">
            <p>Tool calls that need your approval appear here automatically.</p>
          </Empty>
        ) : null}
        {pending.length === 0 ? null : (
          <p class="hint keys">
            Keys: <kbd>j</kbd> <kbd>k</kbd> next, previous; <kbd>a</kbd> <kbd>r</kbd> <kbd>c</kbd> to Approve, Reject, the comment; then <kbd>Enter</kbd>
          </p>
        )}
        <ul class="cards" ref={list}>
          {pending.map((approval) => (
            <li key={approval.id}>
              <PendingCard
                approval={approval}
                now={now}
                move={move}
                left={(card) => {
                  // Its card goes: on to the next one, else to the one before.
                  if (!move(card, 1) && !move(card, -1)) heading.current?.focus()
                }}
              />
            </li>
          ))}
        </ul>
      </section>
      <OwnTurns isLoaded={isLoaded} pending={pending} />
      <section aria-label="Decided">
        <h2>Decided</h2>
        <When state={decided.state} what="decided approvals" retry={decided.retry}>
          {(page) => {
            const past = page.items.filter((approval) => approval.status !== 'pending')
            if (past.length === 0 && decided.more === null) return <Empty title="No decisions yet" />
            return (
              <div class="scroll" tabIndex={0} role="region" aria-label="Decided approvals">
                <table class="decided-table">
                  <thead>
                    <tr>
                      <th>Tool</th>
                      <th>Outcome</th>
                      <th>By</th>
                      <th>Asked by</th>
                      <th>When</th>
                      <th>Arguments</th>
                    </tr>
                  </thead>
                  <tbody>
                    {past.map((approval) => (
                      <tr key={approval.id}>
                        <td>
                          <a href={link('approvals', approval.id)}>{approval.tool}</a>
                        </td>
                        <td>
                          <Badge status={approval.status} />
                        </td>
                        <td>{approval.decided_by ?? '–'}</td>
                        <td>{approval.requested_by}</td>
                        <td>
                          <Time at={approval.decided_at ?? approval.requested_at} />
                        </td>
                        <td class="gist">
                          {approval.decided_arguments == null ? null : <Badge status="changed" />} {oneLine(approval)}
                        </td>
                      </tr>
                    ))}
                  </tbody>
                </table>
                <ShowMore more={decided.more} />
              </div>
            )
          }}
        </When>
      </section>
    </div>
  )
}

interface CardProps {
  approval: Approval
  now: number
  move: (from: HTMLElement | null, by: 1 | -1) => boolean
  left: (card: HTMLElement | null) => void
}

function PendingCard({ approval, now, move, left }: CardProps) {
  const { keys, card } = useDecisionKeys()
  const [vote, setVote] = useState<Approval | null>(null)
  const after = (decided: Approval): void => {
    if (decided.status === 'pending') setVote(decided)
    else left(card.current)
  }
  return (
    <article
      ref={card}
      class="card approval"
      tabIndex={0}
      aria-label={`${approval.tool}, asked by ${approval.requested_by}`}
      aria-keyshortcuts="j k a r c"
      onKeyDown={(event) => {
        if (!isTyping(event) && (event.key === 'j' || event.key === 'k')) {
          event.preventDefault()
          move(card.current, event.key === 'j' ? 1 : -1)
        } else keys(event)
      }}
    >
      <Head approval={approval} now={now} />
      <CallContext approval={approval} isShort />
      <JsonText value={asShown(approval.arguments)} label={`Arguments of ${approval.tool}`} />
      {approval.reason == null ? null : <p class="hint">{approval.reason}</p>}
      {vote === null ? null : <p class="hint">Your vote counts; it takes more people.</p>}
      <QuickDecision approval={approval} after={after} />
    </article>
  )
}

function Head({ approval, now }: { approval: Approval; now: number }) {
  return (
    <>
      <p class="line">
        <a href={link('approvals', approval.id)}>
          <code>{approval.tool}</code>
        </a>
        <span class="deadline">{span(Date.parse(approval.expires_at) - now)} left</span>
      </p>
      <p class="meta">
        asked by {approval.requested_by} at <Time at={approval.requested_at} />
      </p>
    </>
  )
}

/** What the caller's own turns wait for and others decide. Nothing tells of these live, so they are asked for again. */
function OwnTurns({ isLoaded, pending }: { isLoaded: boolean; pending: Approval[] }) {
  const [round, setRound] = useState(0)
  useEffect(() => {
    const timer = setInterval(() => setRound((before) => before + 1), ASK_MS)
    return () => clearInterval(timer)
  }, [])
  const own = usePages<Approval>('/approvals', { scope: 'own_turns', status: 'pending' }, 60, [pending, round])
  const ready = own.state.phase === 'ready' ? own.state.value.items : []
  const others = isLoaded ? ready.filter(({ id }) => !pending.some((mine) => mine.id === id)) : []
  const now = useNow(others.length > 0)
  if (others.length === 0) return null
  return (
    <section aria-label="Your turns">
      <h2>
        Your turns wait for others <span class="count">{others.length}</span>
      </h2>
      <ul class="cards">
        {others.map((approval) => (
          <li key={approval.id} class="card approval">
            <Head approval={approval} now={now} />
            <p class="waits-for">Waits for {whom(approval)}</p>
            <CallContext approval={approval} isShort />
            <p class="gist">{oneLine(approval)}</p>
          </li>
        ))}
      </ul>
      <ShowMore more={own.more} />
    </section>
  )
}

/** The arguments that were approved, or those that were asked for. */
function oneLine(approval: Approval): string {
  const text = jsonText(approval.decided_arguments ?? approval.arguments)
  return revealed(text.length > 300 ? `${text.slice(0, 300)}…` : text)
}
