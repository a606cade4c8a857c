// What led to a call, for who decides it. Models, people and pages wrote it: plain text, whose invisible characters the service
// has written as escapes.

import { useEffect, useRef, useState } from 'preact/hooks'
import type { ApprovalContext, Approval } from '../../client'
import { Badge } from '../bits'
import { useLoaded, useParley, words, type Loaded } from '../context'
import { link } from '../router'

type Excerpt = NonNullable<ApprovalContext['question']>

/** Loaded once the element is on the screen, so that a long list asks for what is looked at. */
function useCallContext(approvalId: string): { state: Loaded<ApprovalContext | null>; seen: preact.RefObject<HTMLDivElement | null> } {
  const { api } = useParley()
  const seen = useRef<HTMLDivElement>(null)
  const [isSeen, setSeen] = useState(false)
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => {
      if (entries.some(({ isIntersecting }) => isIntersecting)) setSeen(true)
    })
    if (seen.current !== null) observer.observe(seen.current)
    return () => observer.disconnect()
  }, [])
  const [state] = useLoaded(
    () => (isSeen ? api.get<ApprovalContext>(`/approvals/${encodeURIComponent(approvalId)}/context`) : Promise.resolve(null)),
    [api, approvalId, isSeen],
  )
  return { state, seen }
}

/** isShort: the question, the reason and what was untrusted, as for a list. */
export function CallContext({ approval, isShort = false }: { approval: Approval; isShort?: boolean }) {
  const { state, seen } = useCallContext(approval.id)
  return (
    <div ref={seen} class={`call-context ${isShort ? 'short' : ''}`} role="group" aria-label="What led to it">
      {state.phase === 'failed' ? <p class="problem">{words(state.error)}</p> : null}
      {state.phase === 'ready' && state.value !== null ? <Told told={state.value} approval={approval} isShort={isShort} /> : null}
    </div>
  )
}

function Told({ told, approval, isShort }: { told: ApprovalContext; approval: Approval; isShort: boolean }) {
  const name = told.session_name ?? 'Untitled'
  const untrusted = told.read.filter((source) => source.is_untrusted).map((source) => source.name)
  return (
    <>
      {told.shows === 'none' ? <p class="hint">The policy of this tool does not show what led to its calls.</p> : (
        <p class="meta">
          In {told.may_open_session ? <a href={link('sessions', approval.session_id)}>its session</a> : 'the session'} “{name}”
        </p>
      )}
      <Said heading={told.asked_by === null ? 'The question' : `${told.asked_by} asked`} excerpt={told.question} />
      {told.files.length === 0 ? null : (
        <p class="meta">
          With the files {told.files.join(', ')}
          {told.more_files === 0 ? null : ` and ${told.more_files} more`}
        </p>
      )}
      <Said heading="Data from outside that came with it" excerpt={told.data} />
      {isShort ? null : <Earlier told={told} />}
      {isShort ? null : <Said heading="The model’s summary of its reasoning" excerpt={told.reasoning} />}
      <Said heading="The agent wrote with the call" excerpt={told.said} />
      {untrusted.length === 0 ? null : (
        <p class="untrusted">
          It had read what others wrote, which may have caused this call: <strong>{untrusted.join(', ')}</strong>
          {told.more_read === 0 ? null : ` and ${told.more_read} more sources`}
        </p>
      )}
    </>
  )
}

function Said({ heading, excerpt }: { heading: string; excerpt: Excerpt | null }) {
  if (excerpt === null) return null
  return (
    <div class="said-before">
      <h3>{heading}</h3>
      <Text excerpt={excerpt} />
    </div>
  )
}

function Text({ excerpt }: { excerpt: Excerpt }) {
  return (
    <p class="excerpt" dir="auto" tabIndex={0}>
      {excerpt.text}
      {excerpt.missing === 0 ? null : <small> [{excerpt.missing} more characters are not shown]</small>}
    </p>
  )
}

function Earlier({ told }: { told: ApprovalContext }) {
  const count = told.earlier.length + told.more_earlier
  if (count === 0) return null
  return (
    <details class="earlier">
      <summary>
        {count} earlier {count === 1 ? 'call' : 'calls'} of this turn
      </summary>
      {told.more_earlier === 0 ? null : <p class="hint">{told.more_earlier} before these are not shown.</p>}
      <ul>
        {told.earlier.map((call, index) => (
          <li key={index}>
            {call.said === null ? null : <Text excerpt={call.said} />}
            <p class="line">
              <code>{call.tool}</code>
              {call.server === null ? null : <small> at {call.server}</small>}
              <Badge status={call.status} />
              {call.is_untrusted ? <Badge status="changed" label="untrusted result" /> : null}
            </p>
            <Raw excerpt={call.arguments} label={`Arguments of ${call.tool}`} />
            {call.result === null ? null : <Raw excerpt={call.result} label={`Result of ${call.tool}`} />}
          </li>
        ))}
      </ul>
    </details>
  )
}

function Raw({ excerpt, label }: { excerpt: Excerpt; label: string }) {
  return (
    <pre class="json" tabIndex={0} role="region" aria-label={label}>
      {excerpt.text}
      {excerpt.missing === 0 ? null : `\n[${excerpt.missing} more characters are not shown]`}
    </pre>
  )
}
