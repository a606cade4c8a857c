import { useEffect, useState } from 'preact/hooks'
import { ExactNumber, type Approval, type Vote } from '../../client'
import { Badge, Deadline, Icon, JsonText, ShowMore, Time, When, span } from '../bits'
import { useAction, useLoaded, useNow, usePages, useParley } from '../context'
import { link } from '../router'
import { parsedArguments } from './arguments'
import { asShown, Diff } from './arguments-diff'
import { CallContext } from './call-context'
import { mayDecide, mayOnlyReject, whom } from './deciding'
import { revealed } from './revealed'
import { approvalsSoFar } from './votes'

/** How often an open approval is read again, since the caller may be unknown and events may be missed. */
const ASK_MS = 15_000

export function ApprovalPage({ approvalId }: { approvalId: string }) {
  const { api, live } = useParley()
  const path = `/approvals/${encodeURIComponent(approvalId)}`
  const [approval, reload] = useLoaded(() => api.get<Approval>(path), [api, path])
  useEffect(
    () =>
      live.listen({
        event: ({ type, data }) => {
          const told = data['approval'] as { id?: string } | undefined
          if (type.startsWith('tool_call.') && type !== 'tool_call.progress' && (told === undefined || told.id === approvalId)) reload()
        },
        state: (state) => {
          if (state === 'live') reload()
        },
      }),
    [live, approvalId],
  )
  return (
    <div class="page narrow">
      <p>
        <a class="quiet" href={link('approvals')}>
          <Icon name="back" /> All approvals
        </a>
      </p>
      <When state={approval} what="the approval" retry={reload}>
        {(value) => <Shown approval={value} path={path} reload={reload} />}
      </When>
    </div>
  )
}

function Shown({ approval, path, reload }: { approval: Approval; path: string; reload: () => void }) {
  const { api, inbox, live, me } = useParley()
  const act = useAction()
  const isPending = approval.status === 'pending'
  const now = useNow(isPending)
  const left = Date.parse(approval.expires_at) - now
  const given = asShown(approval.arguments)
  const [text, setText] = useState(given)
  const [isEditing, setEditing] = useState(false)
  const [comment, setComment] = useState('')
  const [forSession, setForSession] = useState(false)
  const [isSending, setSending] = useState(false)
  const edited = isEditing && text !== given ? parsedArguments(text) : null
  // The service checks who may decide; the buttons only prevent obvious attempts.
  const isDecider = mayDecide(me, approval)
  const isOwn = mayOnlyReject(me, approval)
  const mayChange = isPending && isDecider && !isOwn && approval.policy.allow_changes
  const ownVote = approval.votes.findLast(({ by }) => by === me?.name)

  // Approvers get its events through their role's group; other readers through the session's group.
  useEffect(() => {
    if (!isPending || isDecider) return undefined
    const joined = live.join(approval.session_id)
    joined.then(reload, () => undefined) // without the group, the interval below reads it
    return () => void joined.then((leave) => leave(), () => undefined)
  }, [live, approval.session_id, isPending, isDecider])
  useEffect(() => {
    if (!isPending) return undefined
    const timer = setInterval(reload, ASK_MS)
    return () => clearInterval(timer)
  }, [isPending])

  const decide = async (decision: 'approve' | 'reject'): Promise<void> => {
    setSending(true)
    const changes = decision === 'approve' && edited !== null && edited.ok ? { arguments: edited.value } : {}
    await act(() =>
      api.post<Approval>(`${path}/decision`, {
        decision,
        ...changes,
        ...(comment.trim() === '' ? {} : { comment: comment.trim() }),
        ...(decision === 'approve' && forSession ? { for_session: true } : {}),
      }),
    )
    setSending(false)
    // Also after an error: someone else may have decided first.
    reload()
    inbox.soon(0)
  }

  return (
    <article aria-label="Approval">
      <header class="approval-head">
        <div>
          <h1>
            {isPending ? 'Run ' : null}
            <code>{approval.tool}</code>
            {approval.status === 'pending' ? '?' : ` ${OUTCOMES[approval.status]}`}
          </h1>
          <p class="meta">
            Asked by <strong>{approval.requested_by}</strong> at <Time at={approval.requested_at} />
            {approval.agent_id === null ? null : (
              <>
                {' '}
                through the agent <strong>{approval.agent_id}</strong>, version {approval.agent_version}
              </>
            )}
            . {isPending ? `Decided by ${whom(approval)}` : `It was for ${whom(approval)} to decide`}.
          </p>
          {(approval.asked_through ?? []).length === 0 ? null : (
            <p class="meta">
              Through <strong>{[...(approval.asked_through ?? []), approval.agent_id ?? ''].join(' → ')}</strong>
            </p>
          )}
          {approval.reason == null ? null : <p class="hint">{approval.reason}</p>}
          {approval.definition == null ? null : (
            <p class="hint">
              A tool of the MCP server <strong>{approval.definition.server}</strong> at <code>{approval.definition.url}</code>, which says of it: “
              {approval.definition.description || approval.definition.title || 'nothing'}”
            </p>
          )}
        </div>
        {isPending ? (
          <p class={`countdown ${left < 60_000 ? 'soon' : ''}`} role="timer" aria-label="Time left">
            <strong>{left > 0 ? span(left) : 'over'}</strong>
            <small>
              until <Deadline at={approval.expires_at} />
            </small>
          </p>
        ) : (
          <Badge status={approval.status} />
        )}
      </header>

      <section aria-label="What led to it">
        <h2>What led to it</h2>
        <CallContext approval={approval} />
      </section>

      <section aria-label="Exact arguments">
        <h2>{isPending ? 'Exactly this would run' : approval.status === 'approved' ? 'Exactly this was approved' : 'This did not run'}</h2>
        <dl class="arguments">
          {Object.entries(approval.decided_arguments ?? approval.arguments).map(([name, value]) => (
            <div key={name}>
              <dt>
                {name} {typeof value === 'string' ? null : <small>{kindOf(value)}</small>}
              </dt>
              <dd>{typeof value === 'string' ? revealed(value) : asShown(value)}</dd>
            </div>
          ))}
        </dl>
        {mayChange && !isEditing ? (
          <button type="button" onClick={() => setEditing(true)}>
            Change the arguments
          </button>
        ) : null}
        {isPending && isEditing ? (
          <div class="editor">
            <label class="field">
              Arguments as JSON
              <textarea class="code" rows={Math.min(18, text.split('\n').length + 1)} spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} />
            </label>
            {edited === null ? <p class="hint">No changes yet.</p> : edited.ok ? <Diff before={given} after={asShown(edited.value)} /> : <p class="problem" role="alert">{edited.problem}</p>}
            <button type="button" class="quiet" onClick={() => { setEditing(false); setText(given) }}>
              Discard the changes
            </button>
          </div>
        ) : null}
        {approval.decided_arguments == null ? null : (
          <>
            <h2>Approved with changes</h2>
            <Diff before={given} after={asShown(approval.decided_arguments)} />
          </>
        )}
      </section>

      <Votes
        approval={approval}
        {...(mayChange ? { take: (values: Vote['arguments']) => { setEditing(true); setText(asShown(values)) } } : {})}
      />

      {isPending ? (
        !isDecider ? (
          <p class="hint">You may look at this, but an approver decides.</p>
        ) : (
          <form class="decision" aria-label="Decision" onSubmit={(event) => event.preventDefault()}>
            {isOwn ? <p class="hint">You asked for this yourself, so its policy requires someone else to approve it. You may reject it.</p> : null}
            {ownVote === undefined ? null : <p class="hint">You voted {ownVote.decision}. You may change your vote until it is decided.</p>}
            <label class="field">
              Comment
              <textarea rows={2} maxLength={2000} placeholder="Optional; the model reads it" value={comment} onInput={(event) => setComment(event.currentTarget.value)} />
            </label>
            {approval.policy.allow_for_session && !isOwn ? (
              <label class="check">
                <input type="checkbox" checked={forSession} onChange={(event) => setForSession(event.currentTarget.checked)} />
                {grantWords(approval)}
              </label>
            ) : null}
            <div class="buttons">
              <button type="button" class="danger" disabled={isSending} onClick={() => void decide('reject')}>
                Reject
              </button>
              {isOwn ? null : (
                <button type="button" class="primary" disabled={isSending || (isEditing && edited !== null && !edited.ok)} onClick={() => void decide('approve')}>
                  {edited !== null && edited.ok ? 'Approve with changes' : 'Approve'}
                </button>
              )}
            </div>
          </form>
        )
      ) : (
        <p class="outcome" role="status">
          <Badge status={approval.status} />
          {approval.decided_by == null ? null : ` by ${approval.decided_by}`}
          {approval.decided_at == null ? null : (
            <>
              {' '}
              at <Time at={approval.decided_at} />
            </>
          )}
          {approval.for_session ? `, also later calls in this session: ${grantScope(approval)}` : null}
          {approval.comment == null || approval.comment === '' ? null : <q>{approval.comment}</q>}
        </p>
      )}

      <History approval={approval} isDecider={isDecider} />
    </article>
  )
}

const OUTCOMES: Record<Exclude<Approval['status'], 'pending'>, string> = {
  approved: 'was approved',
  rejected: 'was rejected',
  timed_out: 'was not decided in time',
  cancelled: 'was cancelled',
}

/** What an approval for the rest of the session would allow. */
function grantWords(approval: Approval): string {
  return `Also approve later calls of ${approval.tool} in this session: ${grantScope(approval)}, unless the rule of two requires an approval of each`
}

function grantScope({ agent_id: agent, agent_version: version, requested_by: user, policy }: Approval): string {
  const by = agent === null ? 'this agent' : `the agent ${agent}${version === null ? '' : `, version ${version}`}`
  const grants = policy.allow_for_session
  const same = typeof grants === 'boolean' ? [] : grants.same.map(({ argument, part }) => (part == null ? argument : `${part} of ${argument}`))
  return `by ${by}, in turns of ${user}${same.length === 0 ? '' : `, with the same ${same.join(' and ')}`}`
}

/** take: copies a vote's arguments into the editor, to approve the same. */
function Votes({ approval, take }: { approval: Approval; take?: (values: Vote['arguments']) => void }) {
  const { quorum, votes } = approval
  if (quorum < 2 && votes.length < 2) return null
  return (
    <section aria-label="Votes">
      <h2>
        {approvalsSoFar(approval)} of {quorum} approvals
      </h2>
      {quorum > 1 && votes.some((vote) => vote.arguments !== null) ? <p class="hint">Only approvals of the same arguments are counted together.</p> : null}
      <ul class="votes">
        {votes.map((vote) => (
          <li key={vote.by}>
            <p>
              <strong>{vote.by}</strong> voted {vote.decision} <Time at={vote.at} />
              {vote.comment === null ? null : <q>{vote.comment}</q>}
            </p>
            {vote.arguments === null ? null : (
              <>
                <Diff before={asShown(approval.arguments)} after={asShown(vote.arguments)} />
                {take === undefined ? null : (
                  <button type="button" onClick={() => take(vote.arguments)}>
                    Use {vote.by}’s arguments
                  </button>
                )}
              </>
            )}
          </li>
        ))}
      </ul>
    </section>
  )
}

/** Earlier approvals of the same tool: all that the caller may decide, or else those of the session. */
function History({ approval, isDecider }: { approval: Approval; isDecider: boolean }) {
  const list = isDecider ? '/approvals' : `/sessions/${encodeURIComponent(approval.session_id)}/approvals`
  const past = usePages<Approval>(list, { tool: approval.tool }, 20, [approval.status])
  return (
    <section aria-label="History of this tool">
      <h2>Earlier calls of this tool{isDecider ? '' : ' in this session'}</h2>
      <When state={past.state} what="earlier calls" retry={past.retry}>
        {(page) => {
          const others = page.items.filter(({ id, status }) => id !== approval.id && status !== 'pending')
          if (others.length === 0 && past.more === null) return <p class="hint">No earlier approvals.</p>
          return (
            <>
              <ul class="history">
                {others.map((other) => (
                  <li key={other.id}>
                    <details>
                      <summary>
                        <Badge status={other.status} /> {other.decided_by ?? ''} <Time at={other.decided_at ?? other.requested_at} />
                      </summary>
                      <JsonText value={asShown(other.decided_arguments ?? other.arguments)} label={other.decided_arguments == null ? 'Its arguments' : 'Its arguments, which were changed'} />
                    </details>
                  </li>
                ))}
              </ul>
              <ShowMore more={past.more} />
            </>
          )
        }}
      </When>
    </section>
  )
}

/** The type of a value that is not text: otherwise 5 and "5", which differ for a tool, look alike. */
function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (value instanceof ExactNumber) return 'number'
  return Array.isArray(value) ? 'list' : typeof value
}
