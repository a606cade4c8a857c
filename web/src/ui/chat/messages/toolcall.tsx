import { useState } from 'preact/hooks'
import { jsonText, type Approval, type Progress, type Subagents, type ToolCall, type ToolWait } from '../../../client'
import { Badge, Deadline, Icon, JsonText, Time, span } from '../../bits'
import { asShown, Diff } from '../../approvals/arguments-diff'
import { mayDecide, whom } from '../../approvals/deciding'
import { QuickDecision, useDecisionKeys } from '../../approvals/quick-decision'
import { revealed } from '../../approvals/revealed'
import { approvalsSoFar } from '../../approvals/votes'
import { useNow, useParley } from '../../context'
import { LEFT_OUT } from '../../endings'
import { memo } from '../../memo'
import { link } from '../../router'
import { Asked } from './question'
import { Subagent } from './subagent'

interface Shown {
  call: ToolCall
  approval: Approval | undefined
  wait: ToolWait | undefined
  progress: Progress | undefined
  subagents: Subagents
  isLeftOut: boolean
}

export const ToolCallCard = memo(function ToolCallCard({ call, approval: given, wait, progress, subagents, isLeftOut }: Shown) {
  const { me } = useParley()
  // What the service answered to a decision made here, until the event of it comes.
  const [told, setTold] = useState<Approval | null>(null)
  const approval = given?.status === 'pending' && told !== null && told.votes.length >= given.votes.length ? told : given
  const { keys, card } = useDecisionKeys()
  const isMine = approval?.status === 'pending' && me !== null && mayDecide(me, approval)
  const after = (decided: Approval): void => {
    setTold(decided)
    card.current?.focus() // its buttons go
  }
  const asks = wait?.status === 'pending'
  const waits = approval?.status === 'pending' || asks
  // An approval may be out of reach: a fork has none.
  const decided = call.decided_arguments ?? approval?.decided_arguments ?? null
  const status = waits ? 'pending' : call.status === 'pending' ? 'running' : call.status
  return (
    <section
      ref={card}
      class={`tool-call ${waits ? 'waits' : ''}`}
      aria-label={`Tool call ${call.name}`}
      tabIndex={-1}
      {...(isMine ? { onKeyDown: keys, 'aria-keyshortcuts': 'a r c' } : {})}
    >
      <details open={waits || call.status === 'failed'}>
        <summary>
          <Icon name="tool" />
          <code>{call.name}</code>
          <span class="gist">{revealed(gist(decided ?? call.arguments))}</span>
          <Badge status={status} label={asks ? (wait.kind === 'input' ? 'waits for an answer' : 'waits for its result') : waits ? 'waits for approval' : status} />
        </summary>
        <h4>{decided === null ? 'Arguments' : call.status === 'completed' ? 'Ran with changed arguments' : 'Approved with changed arguments'}</h4>
        <JsonText value={asShown(decided ?? call.arguments)} label={`Arguments of ${call.name}`} />
        {decided === null ? null : (
          <>
            <h4>What was changed</h4>
            <Diff before={asShown(call.arguments)} after={asShown(decided)} />
          </>
        )}
        {call.result === null || call.result === undefined ? null : (
          <>
            <h4>Result</h4>
            <JsonText value={call.result} label={`Result of ${call.name}`} />
          </>
        )}
      </details>
      {successor(call) === null ? null : <p class="decided">{successor(call)} took over</p>}
      <Subagent callId={call.id} subagents={subagents} />
      {progress === undefined ? null : <ProgressSoFar progress={progress} tool={call.name} />}
      {approval === undefined ? null : <Waiting approval={approval} isMine={isMine} />}
      {approval !== undefined && isMine ? (
        <>
          {approval.reason == null ? null : <p class="hint why">{approval.reason}</p>}
          <QuickDecision approval={approval} after={after} />
        </>
      ) : null}
      {wait === undefined ? null : <Asked key={wait.id} wait={wait} />}
      {isLeftOut ? <p class="decided">{LEFT_OUT}</p> : null}
    </section>
  )
})

/** The agent that goes on since a call handed over to it. */
function successor({ name, status, result }: ToolCall): string | null {
  if (!name.startsWith('hand_over_to_') || status !== 'completed') return null
  const named = (result as { name?: unknown } | null)?.name
  return typeof named === 'string' ? named : null
}

/** What a running call says of itself. */
function ProgressSoFar({ progress, tool }: { progress: Progress; tool: string }) {
  return (
    <p class="progress">
      {progress.fraction === null ? null : <progress value={progress.fraction} max={1} aria-label={`Progress of ${tool}`} />}
      <span>{progress.text}</span>
    </p>
  )
}

/** Who may decide a pending call and until when, or who has decided. */
function Waiting({ approval, isMine }: { approval: Approval; isMine: boolean }) {
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
        {approval.requirements?.some(({ rule }) => rule !== null)
          ? ` · ${requirementsMet(approval)}`
          : approval.quorum > 1
            ? ` · ${approvalsSoFar(approval)} of ${approval.quorum} have approved`
            : null}
      </span>
      {isMine ? null : (
        <a class="button" href={link('approvals', approval.id)}>
          Review
        </a>
      )}
    </p>
  )
}

function requirementsMet({ requirements }: Approval): string {
  return requirements.map(({ rule, quorum, approvals }) => `${rule ?? 'policy'}: ${approvals} of ${quorum} have approved`).join(', ')
}

function gist(values: Record<string, unknown>): string {
  const text = Object.values(values)
    .map((value) => (typeof value === 'string' ? value : jsonText(value)))
    .join(' · ')
  return text.length > 90 ? `${text.slice(0, 90)}…` : text
}
