import { useState } from 'preact/hooks'
import type { Approval, MessageView, Progress, SubagentResult, Subagents, ToolWait, TurnView } from '../../../client'
import { Badge, Icon, IconButton, Time } from '../../bits'
import { endingOf, LEFT_OUT } from '../../endings'
import { money, tokensOf, tokenWords } from '../../insight/usage'
import { link } from '../../router'
import { Markdown } from '../../markdown'
import { memo } from '../../memo'
import { AttachmentList } from './attachments'
import { EditForm } from './edit'
import { Output } from './output'
import { Reasoning } from './reasoning'
import { Siblings, type Choose, type Fork } from './siblings'
import { ToolCallCard } from './toolcall'

export interface MessageActions {
  copy: (message: MessageView) => void
  bookmark: (message: MessageView) => void
  regenerate: (message: MessageView) => void
  /** Say it anew; whether that was accepted. */
  edit: (message: MessageView, content: string) => Promise<boolean>
  fork: (message: MessageView) => void
}

interface Props {
  message: MessageView
  /** The author of a user's message. */
  author: string
  /** The reader wrote it. */
  isOwn: boolean
  approvals: Record<string, Approval>
  questions: Record<string, ToolWait>
  progress: Record<string, Progress>
  subagents: Subagents
  /** Calls whose results models no longer read. */
  leftOut: ReadonlySet<string>
  turn: TurnView | undefined
  isMarked: boolean
  /** A search hit, a bookmark or an address led here. */
  isReached: boolean
  mayWrite: boolean
  /** Other continuations that begin here instead. */
  fork: Fork | undefined
  choose: Choose | null
  actions: MessageActions
}

/** The approvals of a message's own calls, so that other approvals do not re-render it. */
export const MessageRow = memo(function MessageRow({ message, author, isOwn, approvals, questions, progress, subagents, leftOut, turn, isMarked, isReached, mayWrite, fork, choose, actions }: Props) {
  const isUser = message.role === 'user'
  const isStreaming = message.status === 'streaming'
  const isThinking = isStreaming && message.content === '' && message.tool_calls.length === 0
  const result = message.from_subagent ?? null
  const who = result !== null ? `Agent ${result.agent_id}` : isUser ? author : speaker(message.role)
  const ending = endingOf(message)
  const [isEditing, setEditing] = useState(false)
  const stopEditing = (): void => {
    setEditing(false)
    // The button comes back with the next frame, and takes the focus back; after an edit was sent, the message is gone.
    requestAnimationFrame(() => {
      const button = document.getElementById(`m-${message.id}`)?.querySelector<HTMLElement>('[data-edit]')
      ;(button ?? document.querySelector<HTMLElement>('.composer textarea'))?.focus()
    })
  }
  return (
    <article id={`m-${message.id}`} class={`message ${result === null ? message.role : 'assistant'} ${isReached ? 'reached' : ''}`} aria-current={isReached ? 'location' : undefined} aria-label={`${who} said`} aria-busy={isStreaming}>
      <div class="who">
        <span>{who}</span>
        <Time at={message.created_at} />
        {fork === undefined ? null : <Siblings fork={fork} what={isUser ? 'Question' : 'Answer'} choose={choose} />}
        {message.status === 'failed' ? <Badge status={message.status} /> : null}
        {isUser && turn?.status === 'queued' ? <Badge status="queued" /> : null}
        {result === null ? null : <span class="soft">in the background</span>}
        {message.joined === true ? <span class="soft" title="The turn that ran then has read it before it went on">joined the turn</span> : null}
        {isMarked ? (
          <span class="marked" title="Bookmarked">
            <Icon name="star" />
            <span class="hidden">Bookmarked</span>
          </span>
        ) : null}
      </div>
      <div class="said">
        {message.reasoning === null ? null : <Reasoning text={message.reasoning} isThinking={isThinking} />}
        {isEditing ? (
          <EditForm message={message} send={(content) => actions.edit(message, content)} close={stopEditing} />
        ) : result !== null ? (
          <FromSubagent result={result} />
        ) : isUser || message.role === 'tool' ? (
          <p class="plain">{message.content}</p>
        ) : message.output === null ? (
          <Markdown text={message.content} />
        ) : (
          <Output value={message.output} />
        )}
        {isStreaming ? <Writing isEmpty={message.content === ''} /> : null}
        <AttachmentList attachments={message.attachments} />
        {message.tool_calls.map((call) => (
          <ToolCallCard key={call.id} call={call} approval={approvals[call.id]} wait={questions[call.id]} progress={progress[call.id]} subagents={subagents} isLeftOut={leftOut.has(call.id)} />
        ))}
        {turn?.error != null && !isUser && message.status === 'failed' ? (
          <p class="problem">
            {turn.error.detail} <code>{turn.error.code}</code>
          </p>
        ) : null}
      </div>
      {ending === null ? null : <p class="ending">{ending}</p>}
      {message.left_out === null ? null : <p class="ending">{LEFT_OUT}</p>}
      {isStreaming || isEditing ? null : (
        <div class="actions" role="group" aria-label="Message actions">
          <IconButton label="Copy" icon="copy" onClick={() => actions.copy(message)} />
          <IconButton label={isMarked ? 'Remove bookmark' : 'Bookmark'} icon="star" aria-pressed={isMarked} onClick={() => actions.bookmark(message)} />
          {isUser && isOwn && mayWrite && result === null ? <IconButton label="Edit" icon="edit" data-edit onClick={() => setEditing(true)} /> : null}
          {isUser && mayWrite ? <IconButton label="Answer again" icon="again" onClick={() => actions.regenerate(message)} /> : null}
          <IconButton label="Fork from here" icon="fork" onClick={() => actions.fork(message)} />
          {message.role === 'assistant' && message.turn_id !== null ? (
            <a class="quiet small" href={link('sessions', message.session_id, 'turns', message.turn_id)}>
              Timeline
            </a>
          ) : null}
          {turn === undefined || isUser ? null : <Cost message={message} turn={turn} />}
        </div>
      )}
    </article>
  )
})

/** Characters from which on a result is folded. */
const FOLDED_FROM = 2_000

/** What became of an agent in the background. Nobody here wrote it. */
function FromSubagent({ result }: { result: SubagentResult }) {
  return (
    <section class="tool-call" aria-label={`Result of ${result.agent_id}`}>
      <details open={result.content.length < FOLDED_FROM}>
        <summary>
          <Icon name="tool" />
          <span class="gist">{result.agent_id}</span>
          <Badge status={result.status} />
        </summary>
        <p class="plain result">{result.content}</p>
      </details>
      <p class="decided">
        <a href={link('sessions', result.session_id)}>Its session</a>
      </p>
    </section>
  )
}

/** What the turn used, at its last answer. */
function Cost({ message, turn }: { message: MessageView; turn: TurnView }) {
  const { usage } = turn
  if (turn.ended_at === null || message.role !== 'assistant' || message.finish_reason === 'tool_calls' || tokensOf(usage) === 0) return null
  const cost = usage.cost_usd === null ? [] : [money(usage.cost_usd)]
  return (
    <span class="cost" title={turn.steps > 1 ? `Of the whole turn, ${turn.steps} model calls` : 'Of this answer'}>
      {[...tokenWords(usage), ...cost].join(' · ')}
    </span>
  )
}

function Writing({ isEmpty }: { isEmpty: boolean }) {
  return (
    <span class={`writing ${isEmpty ? 'alone' : ''}`}>
      <i />
      <i />
      <i />
      <span class="hidden">is writing</span>
    </span>
  )
}

function speaker(role: string): string {
  return role === 'assistant' ? 'Parley' : role === 'tool' ? 'Tool' : 'System'
}
