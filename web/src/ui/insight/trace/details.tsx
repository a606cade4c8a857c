// What is known of one row of a trace.

import type { ComponentChildren } from 'preact'
import type { Message, ToolCall } from '../../../client'
import { asShown, Diff } from '../../approvals/arguments-diff'
import { whom } from '../../approvals/deciding'
import { revealed } from '../../approvals/revealed'
import { Badge, Icon, JsonText, Time } from '../../bits'
import { DEFAULT_AGENT } from '../../chat/session/agent'
import { useParley } from '../../context'
import { isDev } from '../../identity'
import { link } from '../../router'
import { compact } from '../charts'
import { money, type Used } from '../usage'
import type { About, Answering, Row } from './rows'
import { short } from './words'

interface Props {
  row: Row
  /** When the turn on top began. */
  start: number
  choose: (id: string) => void
}

export function RowDetails({ row, start, choose }: Props) {
  const { say } = useParley()
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(window.location.href)
      say('The address of this row is copied.')
    } catch {
      say('The browser does not allow this page to copy.', 'error')
    }
  }
  return (
    <>
      <header class="page-head">
        <h2>
          {row.name} {row.status === '' ? null : <Badge status={row.status} />}
        </h2>
        <button type="button" class="quiet" onClick={() => void copy()}>
          <Icon name="copy" /> Copy its address
        </button>
      </header>
      <Lines
        lines={[
          ['Began', <Moment at={row.from} after={row.from - start} />],
          ['Took', short(row.to - row.from)],
          ...usageLines(row.usage),
        ]}
      />
      <OfKind about={row.about} row={row} choose={choose} />
    </>
  )
}

type Line = [string, ComponentChildren]

function Lines({ lines }: { lines: Line[] }) {
  return (
    <dl class="arguments facts">
      {lines.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

function Moment({ at, after }: { at: number; after: number }) {
  const date = new Date(at)
  return (
    <>
      <time dateTime={date.toISOString()}>{date.toLocaleString()}</time>
      {after > 0 ? `, ${short(after)} after the start` : ''}
    </>
  )
}

function usageLines(usage: Used | null): Line[] {
  if (usage === null) return []
  const { input_tokens = 0, output_tokens = 0, cached_input_tokens = 0, reasoning_tokens = 0, cost_usd } = usage
  const part = (count: number, kind: string): string => (count === 0 ? '' : `, of these ${compact(count)} ${kind}`)
  return [
    ['Tokens read', `${input_tokens.toLocaleString('en-US')}${part(cached_input_tokens, 'from the cache')}`],
    ['Tokens written', `${output_tokens.toLocaleString('en-US')}${part(reasoning_tokens, 'of reasoning')}`],
    ['Cost', cost_usd == null ? 'price not known' : money(cost_usd)],
  ]
}

function OfKind({ about, row, choose }: { about: About; row: Row; choose: (id: string) => void }) {
  switch (about.kind) {
    case 'turn':
      return <OfTurn about={about} />
    case 'model':
      return <OfStep about={about} row={row} choose={choose} />
    case 'attempt':
      return <p class="hint">{about.isLast ? 'The attempt whose answer is kept.' : 'It failed on its way; the next one began the answer again.'}</p>
    case 'tool':
      return <OfCall call={about.call} ranFor={about.ranFor} />
    case 'approval':
      return <OfApproval about={about} />
    case 'wait':
      return <OfWait about={about} />
    case 'queue':
      return <p class="hint">{about.words}</p>
    case 'unread':
      return (
        <>
          <p class="problem">{about.problem}</p>
          <p>
            <a href={link('sessions', about.below.sessionId)}>Its session</a>
          </p>
        </>
      )
  }
}

function Agent({ by: { agentId, version } }: { by: Answering }) {
  const agent = agentId ?? DEFAULT_AGENT
  return (
    <>
      <a href={link('agents', agent)}>{agent}</a>
      {version === null ? '' : version === 0 ? ', a draft that was tried' : `, version ${version}`}
    </>
  )
}

function answeringLines(agents: readonly Answering[]): Line[] {
  return agents.flatMap((by, place): Line[] => [
    [place === 0 ? 'Agent' : 'Then', <Agent by={by} />],
    ...(by.model === null ? [] : [['Model', <code>{by.model}</code>] as Line]),
  ])
}

function OfTurn({ about: { facts, agents } }: { about: Extract<About, { kind: 'turn' }> }) {
  const { turn, question } = facts
  const answer = facts.messages.findLast(({ role, content }) => role === 'assistant' && content !== '')
  return (
    <>
      <Lines
        lines={[
          ['Turn', <code>{turn.id}</code>],
          ['Session', <a href={link('sessions', turn.session_id)}>{turn.session_id}</a>],
          ...answeringLines(agents),
          ...(question?.author == null ? [] : [['Asked by', question.author] as Line]),
        ]}
      />
      {turn.error === null ? null : (
        <p class="problem">
          {turn.error.detail} <code>{turn.error.code}</code>
        </p>
      )}
      <Links turnId={turn.id} />
      {question === null ? null : <Said title="The message" message={question} isOpen />}
      {answer === undefined ? null : <Said title="Its answer" message={answer} isOpen={false} />}
    </>
  )
}

/** On a laptop, the local host shows the orchestration of the same id. */
function Links({ turnId }: { turnId: string }) {
  const isHere = isDev && ['localhost', '127.0.0.1', '[::1]'].includes(window.location.hostname)
  if (!isHere) return null
  return (
    <p>
      <a href={`/admin/pages/durableTask/${encodeURIComponent(turnId)}`} target="_blank" rel="noreferrer">
        Its durable history
      </a>{' '}
      <small>on the local host's pages; sign in to them with the address that ./dev up prints</small>
    </p>
  )
}

function OfStep({ about: { by, message, read, attempts, firstAt, ending }, row, choose }: { about: Extract<About, { kind: 'model' }>; row: Row; choose: (id: string) => void }) {
  const last = attempts.at(-1)
  return (
    <>
      <Lines
        lines={[
          ...answeringLines([by]),
          ...(firstAt === null || last === undefined ? [] : [['First words after', short(firstAt - last.from)] as Line]),
          ...(attempts.length < 2 ? [] : [['Attempts', String(attempts.length)] as Line]),
          ...(ending === null ? [] : [['Ended', ending] as Line]),
          ...(message === null ? [] : [['Message', <code>{message.id}</code>] as Line]),
        ]}
      />
      {message?.reasoning == null || message.reasoning === '' ? null : (
        <details open>
          <summary>Reasoning, as the model shows it</summary>
          <pre class="json" tabIndex={0}>{message.reasoning}</pre>
        </details>
      )}
      {message === null ? <p class="hint">Its message is not stored yet.</p> : <Said title="What it wrote" message={message} isOpen />}
      {message?.output == null ? null : <JsonText value={message.output} label="Its answer as JSON" />}
      <Calls calls={row.children.map(({ about }) => (about.kind === 'tool' ? about.call : null)).filter((call) => call !== null)} choose={choose} />
      <details>
        <summary>What it read</summary>
        <p class="hint">
          The agent’s instructions and the conversation before this turn, as far as they fit, and the message of the turn
          {read.length === 0 ? '.' : ', and then what the turn had so far:'}
        </p>
        {read.map((one) => (
          <Said key={one.id} title={one.role === 'tool' ? 'A result' : 'An answer before it'} message={one} isOpen={false} />
        ))}
      </details>
    </>
  )
}

function Calls({ calls, choose }: { calls: readonly ToolCall[]; choose: (id: string) => void }) {
  if (calls.length === 0) return null
  return (
    <>
      <h3>It called</h3>
      <ul class="plain-list">
        {calls.map(({ id, name }) => (
          <li key={id}>
            <button type="button" class="quiet" onClick={() => choose(id)}>
              <code>{name}</code>
            </button>
          </li>
        ))}
      </ul>
    </>
  )
}

function Said({ title, message, isOpen }: { title: string; message: Message; isOpen: boolean }) {
  const text = message.content
  return (
    <details open={isOpen}>
      <summary>
        {title} <small>{text === '' ? 'no text' : `${text.length.toLocaleString('en-US')} characters`}</small>
      </summary>
      {text === '' ? null : (
        <pre class="json" tabIndex={0} role="region" aria-label={title}>
          {revealed(text)}
        </pre>
      )}
      {message.attachments.length === 0 ? null : <p class="hint">Files: {message.attachments.map(({ name }) => name).join(', ')}</p>}
    </details>
  )
}

function OfCall({ call, ranFor }: { call: ToolCall; ranFor: number | null }) {
  return (
    <>
      <Lines lines={[...(ranFor === null ? [] : [['Ran for', short(ranFor)] as Line]), ['Call', <code>{call.id}</code>], ...(call.is_client ? [['Run by', 'the client of the user'] as Line] : [])]} />
      <h3>Arguments</h3>
      <JsonText value={asShown(call.arguments)} label={`Arguments of ${call.name}`} />
      {call.decided_arguments === null ? null : (
        <>
          <h3>Changed by who approved it</h3>
          <Diff before={asShown(call.arguments)} after={asShown(call.decided_arguments)} />
        </>
      )}
      {call.result == null ? null : (
        <>
          <h3>{call.status === 'completed' ? 'Result' : 'What came of it'}</h3>
          <JsonText value={call.result} label={`Result of ${call.name}`} />
        </>
      )}
    </>
  )
}

function OfApproval({ about: { approval } }: { about: Extract<About, { kind: 'approval' }> }) {
  return (
    <>
      <Lines
        lines={[
          ['Asked', whom(approval)],
          ['Decided by', approval.decided_by ?? (approval.status === 'pending' ? 'nobody yet' : 'nobody: the policy decided')],
          ...(approval.decided_at === null ? [] : [['At', <Time at={approval.decided_at} />] as Line]),
          ['Would end', <Time at={approval.expires_at} />],
          ...(approval.reason === null ? [] : [['Why', approval.reason] as Line]),
          ...(approval.agent_id === null ? [] : [['Agent', `${approval.agent_id}, version ${approval.agent_version ?? 'unknown'}`] as Line]),
        ]}
      />
      {approval.votes.length === 0 ? null : (
        <ul class="plain-list">
          {approval.votes.map((vote) => (
            <li key={`${vote.by} ${vote.at}`}>
              <strong>{vote.by}</strong> {vote.decision} <Time at={vote.at} />
              {vote.comment == null || vote.comment === '' ? null : <q>{vote.comment}</q>}
            </li>
          ))}
        </ul>
      )}
      <p>
        <a class="button" href={link('approvals', approval.id)}>
          The approval
        </a>
      </p>
    </>
  )
}

function OfWait({ about: { wait } }: { about: Extract<About, { kind: 'wait' }> }) {
  return (
    <>
      <Lines
        lines={[
          ['Asked by', wait.asked_by ?? wait.tool],
          ['Answered by', wait.ended_by ?? (wait.status === 'pending' ? `${wait.asked_of} may` : 'nobody')],
          ['Until', <Time at={wait.expires_at} />],
        ]}
      />
      <ul class="plain-list">
        {wait.questions.map(({ id, message }) => (
          <li key={id}>
            {message} {wait.actions[id] === undefined ? null : <Badge status={wait.actions[id] === 'accept' ? 'completed' : ''} label={wait.actions[id]} />}
          </li>
        ))}
      </ul>
    </>
  )
}
