import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { isOver, jsonText, type Access, type Attachment, type Conversation, type PostedTurn, type Session, type SessionFeed, type TurnView } from '../../client'
import { Icon, IconButton } from '../bits'
import { useAction, useParley, words } from '../context'
import { draftOf, keepDraft } from './drafts'
import { size } from './messages/attachments'
import { randomKey } from './sending'

const MAX_FILES = 16

interface Pending {
  key: string
  file: File
  state: 'sending' | 'failed' | 'ready'
  info?: Attachment
  problem?: string
}

interface Props {
  feed: SessionFeed
  conversation: Conversation
  turn: TurnView | null
  /** What the caller may do in the session; null: not known yet. */
  access: Access | null
}

export function Composer({ feed, conversation, turn, access }: Props) {
  const { api, say } = useParley()
  const act = useAction()
  const [text, setText] = useState(() => draftOf(feed.sessionId))
  const [files, setFiles] = useState<Pending[]>([])
  const [isSending, setSending] = useState(false)
  const field = useRef<HTMLTextAreaElement>(null)
  // Keep the idempotency key for the same text until it is accepted, so that a retry does not post a second message.
  const attempt = useRef<{ of: string; key: string } | null>(null)
  const path = `/sessions/${encodeURIComponent(feed.sessionId)}`
  const { status } = conversation.session
  const isOpen = turn !== null && !isOver(turn.status)
  const [chosen, setSteers] = useState<boolean | null>(null)
  const steers = chosen ?? conversation.session.config.concurrency === 'steer'

  useEffect(() => {
    const box = field.current
    if (box === null) return
    box.style.height = 'auto'
    box.style.height = `${Math.min(box.scrollHeight, 260)}px`
  }, [text])

  // At once: a moment later it would take the focus from what was opened meanwhile, and a menu closes without it.
  useLayoutEffect(() => field.current?.focus(), [feed.sessionId])
  useEffect(() => keepDraft(feed.sessionId, text), [feed.sessionId, text])

  const attach = (list: FileList | null | undefined): void => {
    const chosen = [...(list ?? [])].slice(0, MAX_FILES - files.length)
    for (const file of chosen) {
      const key = randomKey()
      setFiles((now) => [...now, { key, file, state: 'sending' }])
      upload(key, file)
    }
  }

  const upload = (key: string, file: File): void => {
    const put = (change: Partial<Pending>): void =>
      setFiles((now) => now.map((pending) => (pending.key === key ? { ...pending, ...change } : pending)))
    put({ state: 'sending' })
    const form = new FormData()
    form.append('file', file, file.name)
    api.post<Attachment>(`${path}/attachments`, form).then(
      (info) => put({ state: 'ready', info }),
      (error: unknown) => put({ state: 'failed', problem: words(error) }),
    )
  }

  const send = async (joins = steers): Promise<void> => {
    const content = text.trim()
    const ready = files.filter((file) => file.state === 'ready')
    if ((content === '' && ready.length === 0) || isSending) return
    if (files.some((file) => file.state === 'sending')) return say('A file is still being sent.')
    if (files.some((file) => file.state === 'failed')) return say('A file could not be sent. Try it again, or remove it.', 'error')
    const body = {
      content,
      ...(ready.length > 0 ? { attachment_ids: ready.map((file) => file.info!.id) } : {}),
      ...(isOpen ? { concurrency: joins ? 'steer' : 'enqueue' } : {}),
    }
    const of = jsonText(body)
    if (attempt.current?.of !== of) attempt.current = { of, key: randomKey() }
    setSending(true)
    const went = await act(async () => {
      const posted = await api.post<PostedTurn>(`${path}/messages`, body, { 'idempotency-key': attempt.current!.key })
      feed.posted(posted)
      if (isOpen && joins && posted.message.joined !== true) say('It could not join this turn, and is answered after it.')
    })
    setSending(false)
    if (!went) return
    attempt.current = null
    // Text and files added while it was being sent stay for the next message.
    setText((now) => (now.startsWith(text) ? now.slice(text.length).trimStart() : now))
    setFiles((now) => now.filter(({ key }) => !files.some((shown) => shown.key === key)))
    field.current?.focus()
  }

  if (status === 'ENDED') return <p class="composer closed">This session has ended. You can read and fork it.</p>
  if (access === 'read') return <p class="composer closed">You may read this session, and not write to it.</p>
  if (status === 'SUSPENDED') {
    if (access === 'write') return <p class="composer closed">Its owner has suspended this session.</p>
    return (
      <p class="composer closed">
        This session is suspended.{' '}
        <button type="button" onClick={() => void act(async () => feed.session(await api.post<Session>(`${path}/resume`)), `resume ${feed.sessionId}`)}>
          Resume it
        </button>
      </p>
    )
  }
  return (
    <form
      class="composer"
      aria-label="New message"
      onSubmit={(event) => {
        event.preventDefault()
        void send()
      }}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault()
        attach(event.dataTransfer?.files)
      }}
    >
      {files.length === 0 ? null : (
        <ul class="attachments" aria-label="Files to send">
          {files.map((pending) => (
            <li key={pending.key} class={pending.state}>
              <span>{pending.file.name}</span>
              <small>{pending.state === 'failed' ? pending.problem : pending.state === 'sending' ? 'sending…' : size(pending.file.size)}</small>
              {pending.state === 'failed' ? <IconButton label={`Send ${pending.file.name} again`} icon="again" onClick={() => upload(pending.key, pending.file)} /> : null}
              <IconButton label={`Remove ${pending.file.name}`} icon="close" onClick={() => setFiles(files.filter(({ key }) => key !== pending.key))} />
            </li>
          ))}
        </ul>
      )}
      {isOpen ? (
        <fieldset class="when">
          <legend class="hidden">What becomes of a message now</legend>
          <label title="It is answered after the current turn">
            <input type="radio" name="when" checked={!steers} onChange={() => setSteers(false)} />
            Queue
          </label>
          <label title="The current turn reads it before it goes on (Ctrl+Enter)">
            <input type="radio" name="when" checked={steers} onChange={() => setSteers(true)} />
            Join this turn
          </label>
        </fieldset>
      ) : null}
      <div class="line">
        <label class="quiet icon clip" title="Attach a file">
          <Icon name="clip" />
          <span class="hidden">Attach a file</span>
          <input type="file" multiple class="hidden" onChange={(event) => { attach(event.currentTarget.files); event.currentTarget.value = '' }} />
        </label>
        <textarea
          ref={field}
          rows={1}
          aria-label="Message"
          dir="auto"
          placeholder={!isOpen ? 'Message' : steers ? 'Message, read before the current turn goes on' : 'Message, answered after the current turn'}
          value={text}
          onInput={(event) => {
            // At once: an effect runs after the next frame, and the page may be gone by then.
            keepDraft(feed.sessionId, event.currentTarget.value)
            setText(event.currentTarget.value)
          }}
          onPaste={(event) => {
            if ((event.clipboardData?.files.length ?? 0) > 0) {
              event.preventDefault()
              attach(event.clipboardData?.files)
            }
          }}
          onKeyDown={(event) => {
            // Safari ends a composition before the Enter that ended it, which it marks with 229.
            if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
              event.preventDefault()
              void send(steers || event.ctrlKey || event.metaKey)
            }
          }}
        />
        {isOpen ? (
          <button type="button" class="stop" onClick={() => void act(() => api.post(`${path}/turns/${turn.id}/cancel`))}>
            <Icon name="stop" />
            Stop
          </button>
        ) : null}
        <button type="submit" class="primary" disabled={isSending} aria-label="Send">
          <Icon name="send" />
        </button>
      </div>
    </form>
  )
}
