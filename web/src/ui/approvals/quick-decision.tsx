// Approve or reject where an approval is met: in the chat and in the inbox. Changed arguments and grants have the approval's page.

import { useRef, useState } from 'preact/hooks'
import type { Approval } from '../../client'
import { useAction, useParley } from '../context'
import { link } from '../router'
import { mayOnlyReject } from './deciding'

/** after: what the service answered. */
export function QuickDecision({ approval, after }: { approval: Approval; after: (decided: Approval) => void }) {
  const { api, inbox, me, say } = useParley()
  const act = useAction()
  const [comment, setComment] = useState('')
  const [isSending, setSending] = useState(false)
  const isOwn = mayOnlyReject(me, approval)
  const decide = async (decision: 'approve' | 'reject'): Promise<void> => {
    setSending(true)
    const said = comment.trim()
    await act(async () => {
      const path = `/approvals/${encodeURIComponent(approval.id)}/decision`
      const decided = await api.post<Approval>(path, { decision, ...(said === '' ? {} : { comment: said }) })
      say(decided.status === 'pending' ? `Your vote on ${approval.tool} counts; it takes more.` : `${approval.tool}: ${decided.status}.`)
      after(decided)
    }, `decide ${approval.id}`)
    setSending(false)
    inbox.soon(0) // also after an error: someone else may have decided first
  }
  return (
    <div class="quick-decision" role="group" aria-label={`Decision about ${approval.tool}`}>
      <input
        type="text"
        maxLength={2000}
        aria-label={`Comment on ${approval.tool}`}
        placeholder="Comment (optional; the model reads it)"
        value={comment}
        data-key="c"
        onInput={(event) => setComment(event.currentTarget.value)}
      />
      <div class="buttons">
        <a class="quiet small" href={link('approvals', approval.id)}>
          Review
        </a>
        <button type="button" class="danger" disabled={isSending} data-key="r" onClick={() => void decide('reject')}>
          Reject
        </button>
        {isOwn ? null : (
          <button type="button" class="primary" disabled={isSending} data-key="a" onClick={() => void decide('approve')}>
            Approve
          </button>
        )}
      </div>
      {isOwn ? <p class="hint">You asked for this yourself, so its policy requires someone else to approve it. You may reject it.</p> : null}
    </div>
  )
}

/** Keys of a card with a decision in it: a and r go to its buttons, c to the comment. The button itself is pressed as any other,
 * so that no single key decides. */
export function useDecisionKeys(): { keys: (event: KeyboardEvent) => void; card: preact.RefObject<HTMLElement | null> } {
  const card = useRef<HTMLElement>(null)
  const keys = (event: KeyboardEvent): void => {
    if (isTyping(event)) return
    const target = card.current?.querySelector<HTMLElement>(`[data-key="${CSS.escape(event.key)}"]`)
    if (target == null) return
    event.preventDefault()
    target.focus()
  }
  return { keys, card }
}

/** Whether a key belongs to a field, or to the browser. */
export function isTyping(event: KeyboardEvent): boolean {
  return event.ctrlKey || event.metaKey || event.altKey || event.isComposing || (event.target instanceof Element && event.target.matches('input, textarea, select'))
}
