// A session that tries a version, in short: what was said, what it called, and what each turn took.

import { useEffect, useState } from 'preact/hooks'
import { isOver, openTurn, type Conversation, type MessageView, type Turn } from '../../client'
import { mayDecide } from '../approvals/deciding'
import { QuickDecision } from '../approvals/quick-decision'
import { Badge, Failed, JsonText, Loading } from '../bits'
import { useFeed } from '../chat/use-feed'
import { useNow, useParley } from '../context'
import { short } from '../insight/trace/words'
import { money, tokenWords } from '../insight/usage'
import { Markdown } from '../markdown'
import { link } from '../router'

export function TrialView({ sessionId, label }: { sessionId: string; label: string }) {
  const [, state] = useFeed(sessionId)
  return (
    <div class="trial-said" role="log" aria-label={label} tabIndex={0}>
      {state.phase === 'loading' ? <Loading what="the trial" /> : state.phase === 'failed' ? <Failed error={state.error} /> : <Said conversation={state.conversation} />}
    </div>
  )
}

function Said({ conversation }: { conversation: Conversation }) {
  const { messages, turns } = conversation
  const open = openTurn(conversation)
  const shown = messages.filter(({ role }) => role !== 'tool')
  return (
    <>
      {shown.map((message) => (
        <Message key={message.id} message={message} conversation={conversation} />
      ))}
      {Object.values(turns).filter(({ error }) => error !== null).map(({ id, error }) => (
        <p key={id} class="problem">
          {error?.detail} <code>{error?.code}</code>
        </p>
      ))}
      {Object.values(turns).map(({ id }) => (
        <Figures key={id} sessionId={conversation.session.id} turnId={id} isOpen={open?.id === id} status={turns[id]?.status ?? ''} />
      ))}
    </>
  )
}

function Message({ message, conversation }: { message: MessageView; conversation: Conversation }) {
  const { me } = useParley()
  return (
    <article class={`trial-message ${message.role}`} aria-label={message.role === 'user' ? 'Message' : 'Answer'}>
      {message.reasoning == null || message.reasoning === '' ? null : (
        <details class="reasoning">
          <summary>Reasoning</summary>
          <Markdown text={message.reasoning} />
        </details>
      )}
      {message.role === 'user' ? <p class="plain">{message.content}</p> : <Markdown text={message.content} />}
      {message.tool_calls.map((call) => {
        const approval = conversation.approvals[call.id]
        return (
          <details key={call.id} class="fine-print">
            <summary>
              <code>{call.name}</code> <Badge status={approval?.status === 'pending' ? 'pending' : call.status} label={approval?.status === 'pending' ? 'waits for approval' : call.status} />
            </summary>
            <JsonText value={call.arguments} label={`Arguments of ${call.name}`} />
            {call.result == null ? null : <JsonText value={call.result} label={`Result of ${call.name}`} />}
          </details>
        )
      })}
      {message.tool_calls.map((call) => {
        const approval = conversation.approvals[call.id]
        if (approval?.status !== 'pending') return null
        return me !== null && mayDecide(me, approval) ? (
          <QuickDecision key={approval.id} approval={approval} after={() => undefined} />
        ) : (
          <p key={approval.id} class="waiting">
            <a href={link('approvals', approval.id)}>Its approval</a>
          </p>
        )
      })}
    </article>
  )
}

/** Of one turn: how long, how many tokens and how much money. */
function Figures({ sessionId, turnId, isOpen, status }: { sessionId: string; turnId: string; isOpen: boolean; status: string }) {
  const { api } = useParley()
  const now = useNow(isOpen)
  const [turn, setTurn] = useState<Turn | null>(null)
  useEffect(() => {
    let isCurrent = true
    api.get<Turn>(`/sessions/${encodeURIComponent(sessionId)}/turns/${encodeURIComponent(turnId)}`).then(
      (found) => isCurrent && setTurn(found),
      () => undefined, // the trace says what is wrong
    )
    return () => {
      isCurrent = false
    }
  }, [api, sessionId, turnId, status])
  if (turn === null) return null
  const took = (turn.ended_at === null ? now : Date.parse(turn.ended_at)) - Date.parse(turn.started_at ?? turn.created_at)
  return (
    <p class="trial-figures" aria-label="What it took">
      <Badge status={turn.status} />
      <span>{short(Math.max(0, took))}</span>
      {isOver(turn.status) ? (
        <>
          <span>{tokenWords(turn.usage).join(', ')}</span>
          <span>{turn.usage.cost_usd == null ? 'price not known' : money(turn.usage.cost_usd)}</span>
          <span>
            {turn.steps} {turn.steps === 1 ? 'step' : 'steps'}
          </span>
        </>
      ) : null}
      <a href={link('sessions', sessionId, 'turns', turnId)}>Timeline</a>
    </p>
  )
}
