import { jsonText, type Approval, type ToolCall } from '../../../client'
import { Badge, Deadline, Icon, JsonText, Time, span } from '../../bits'
import { approvalsSoFar } from '../../approvals/votes'
import { useNow } from '../../context'
import { LEFT_OUT } from '../../endings'
import { memo } from '../../memo'
import { link } from '../../router'

export const ToolCallCard = memo(function ToolCallCard({ call, approval, isLeftOut }: { call: ToolCall; approval: Approval | undefined; isLeftOut: boolean }) {
  const waits = approval?.status === 'pending'
  // An approval may be out of reach: a fork has none.
  const decided = call.decided_arguments ?? approval?.decided_arguments ?? null
  const status = waits ? 'pending' : call.status === 'pending' ? 'running' : call.status
  return (
    <section class={`tool-call ${waits ? 'waits' : ''}`} aria-label={`Tool call ${call.name}`}>
      <details open={waits || call.status === 'failed'}>
        <summary>
          <Icon name="tool" />
          <code>{call.name}</code>
          <span class="gist">{gist(decided ?? call.arguments)}</span>
          <Badge status={status} label={waits ? 'waits for approval' : status} />
        </summary>
        <h4>Arguments</h4>
        <JsonText value={call.arguments} label={`Arguments of ${call.name}`} />
        {decided === null ? null : (
          <>
            <h4>Approved with changed arguments</h4>
            <JsonText value={decided} label={`Approved arguments of ${call.name}`} />
          </>
        )}
        {call.result === null || call.result === undefined ? null : (
          <>
            <h4>Result</h4>
            <JsonText value={call.result} label={`Result of ${call.name}`} />
          </>
        )}
      </details>
      {approval === undefined ? null : <Waiting approval={approval} />}
      {isLeftOut ? <p class="decided">{LEFT_OUT}</p> : null}
    </section>
  )
})

/** Who may decide a pending call and until when, or who has decided. */
function Waiting({ approval }: { approval: Approval }) {
  const waits = approval.status === 'pending'
  const now = useNow(waits)
  if (!waits) {
    return (
      <p class="decided">
        {approval.status.replace('_', ' ')}
        {approval.decided_by == null ? null : ` by ${approval.decided_by}`}
        {approval.decided_at == null ? null : (
          <>
            {' '}
            at <Time at={approval.decided_at} />
          </>
        )}
        {approval.comment == null || approval.comment === '' ? null : <q>{approval.comment}</q>}
      </p>
    )
  }
  const left = Date.parse(approval.expires_at) - now
  return (
    <p class="waiting">
      <span>
        Waits for {whom(approval)} until <Deadline at={approval.expires_at} /> ({span(left)} left)
        {approval.quorum > 1 ? ` · ${approvalsSoFar(approval)} of ${approval.quorum} have approved` : null}
      </span>
      <a class="button" href={link('approvals', approval.id)}>
        Review
      </a>
    </p>
  )
}

export function whom({ policy }: Pick<Approval, 'policy'>): string {
  const people = [...policy.users, ...policy.roles.map((role) => `any ${role}`)]
  const named = people.length === 0 ? 'an approver' : people.join(' or ')
  return policy.quorum > 1 ? `${policy.quorum} people (${named})` : named
}

function gist(values: Record<string, unknown>): string {
  const text = Object.values(values)
    .map((value) => (typeof value === 'string' ? value : jsonText(value)))
    .join(' · ')
  return text.length > 90 ? `${text.slice(0, 90)}…` : text
}
