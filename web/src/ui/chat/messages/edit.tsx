// A user's message while it is edited, where it stands. What was said and answered before stays, as another branch.

import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { MessageView } from '../../../client'

interface Props {
  message: MessageView
  /** Whether it was accepted; until then the words stay here. */
  send: (content: string) => Promise<boolean>
  close: () => void
}

export function EditForm({ message, send, close }: Props) {
  const [text, setText] = useState(message.content)
  const [isSending, setSending] = useState(false)
  const field = useRef<HTMLTextAreaElement>(null)
  // At once: later it would take back what the user has selected meanwhile.
  useLayoutEffect(() => {
    const box = field.current
    box?.focus()
    box?.setSelectionRange(box.value.length, box.value.length)
  }, [])
  const submit = async (): Promise<void> => {
    const content = text.trim()
    if (content === '' || isSending) return
    if (content === message.content.trim()) return close()
    setSending(true)
    if (await send(content)) close()
    else setSending(false)
  }
  return (
    <form
      class="edit"
      aria-label="Edit the message"
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      <textarea
        ref={field}
        rows={3}
        aria-label="Edited message"
        dir="auto"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') {
            event.stopPropagation()
            close()
          } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
            event.preventDefault()
            void submit()
          }
        }}
      />
      <footer>
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={isSending || text.trim() === ''}>
          Send
        </button>
      </footer>
    </form>
  )
}
