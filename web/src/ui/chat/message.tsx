import type { Approval, MessageView, TurnView } from '../../client'
import { Badge, IconButton, Time } from '../bits'
import { link } from '../router'
import { Markdown } from '../markdown'
import { memo } from '../memo'
import { AttachmentList } from './attachments'
import { ToolCallCard } from './toolcall'

export interface MessageActions {
  copy: (message: MessageView) => void
  bookmark: (message: MessageView) => void
  regenerate: (message: MessageView) => void
  fork: (message: MessageView) => void
}

interface Props {
  message: MessageView
  approvals: Record<string, Approval>
  turn: TurnView | undefined
  isMarked: boolean
  mayWrite: boolean
  actions: MessageActions
}

/** The approvals of a message's own calls, so that another message's do not draw it again. */
export const MessageRow = memo(function MessageRow({ message, approvals, turn, isMarked, mayWrite, actions }: Props) {
  const isUser = message.role === 'user'
  const isStreaming = message.status === 'streaming'
  return (
    <article id={`m-${message.id}`} class={`message ${message.role}`} aria-label={`${isUser ? 'You' : speaker(message.role)} said`} aria-busy={isStreaming}>
      <div class="who">
        <span>{isUser ? 'You' : speaker(message.role)}</span>
        <Time at={message.created_at} />
        {message.status === 'cancelled' || message.status === 'failed' ? <Badge status={message.status} /> : null}
      </div>
      <div class="said">
        {isUser || message.role === 'tool' ? <p class="plain">{message.content}</p> : <Markdown text={message.content} />}
        {isStreaming ? <Writing isEmpty={message.content === ''} /> : null}
        <AttachmentList attachments={message.attachments} />
        {message.tool_calls.map((call) => (
          <ToolCallCard key={call.id} call={call} approval={approvals[call.id]} />
        ))}
        {turn?.error != null && !isUser && message.status === 'failed' ? <p class="problem">{turn.error.detail}</p> : null}
      </div>
      {isStreaming ? null : (
        <div class="actions" role="group" aria-label="Message actions">
          <IconButton label="Copy" icon="copy" onClick={() => actions.copy(message)} />
          <IconButton label={isMarked ? 'Remove bookmark' : 'Bookmark'} icon="star" aria-pressed={isMarked} onClick={() => actions.bookmark(message)} />
          {isUser && mayWrite ? <IconButton label="Answer again" icon="again" onClick={() => actions.regenerate(message)} /> : null}
          <IconButton label="Fork from here" icon="fork" onClick={() => actions.fork(message)} />
          {message.role === 'assistant' && message.turn_id !== null ? (
            <a class="quiet small" href={link('sessions', message.session_id, 'turns', message.turn_id)}>
              Timeline
            </a>
          ) : null}
        </div>
      )}
    </article>
  )
})

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
