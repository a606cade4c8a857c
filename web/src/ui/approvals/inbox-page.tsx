import { useEffect, useState } from 'preact/hooks'
import { jsonText, type Approval } from '../../client'
import { Badge, Empty, Failed, Loading, ShowMore, Time, When, span } from '../bits'
import { useNow, usePages, useParley } from '../context'
import { link } from '../router'
import type { InboxState } from './inbox'

export function useInbox(): InboxState {
  const { inbox } = useParley()
  const [state, setState] = useState(inbox.current)
  useEffect(() => {
    setState(inbox.current)
    return inbox.subscribe(setState)
  }, [inbox])
  return state
}

export function InboxPage() {
  const { inbox } = useParley()
  const { pending, isLoaded, error } = useInbox()
  const now = useNow(pending.length > 0)
  const decided = usePages<Approval>('/approvals', {}, 60, [pending])
  return (
    <div class="page">
      <h1>Approvals</h1>
      <section aria-label="Waiting">
        <h2>Waiting {pending.length > 0 ? <span class="count">{pending.length}</span> : null}</h2>
        {error !== null ? <Failed error={error} retry={() => inbox.soon(0)} /> : null}
        {!isLoaded && error === null ? <Loading what="the inbox" /> : null}
        {isLoaded && pending.length === 0 ? (
          <Empty title="No pending approvals">
            <p>Tool calls that need your approval appear here automatically.</p>
          </Empty>
        ) : null}
        <ul class="cards">
          {pending.map((approval) => (
            <li key={approval.id}>
              <a class="card approval" href={link('approvals', approval.id)}>
                <span class="line">
                  <code>{approval.tool}</code>
                  <span class="deadline">{span(Date.parse(approval.expires_at) - now)} left</span>
                </span>
                <span class="gist">{jsonText(approval.arguments)}</span>
                <span class="meta">
                  asked by {approval.requested_by} at <Time at={approval.requested_at} />
                </span>
              </a>
            </li>
          ))}
        </ul>
      </section>
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
