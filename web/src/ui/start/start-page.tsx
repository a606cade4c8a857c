// Where no session is open: write, choose who answers, or try an example. The first message makes the session.

import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { jsonText, type Agent, type PostedTurn, type Session } from '../../client'
import { Icon, When } from '../bits'
import { draftOf, keepDraft } from '../chat/drafts'
import { randomKey } from '../chat/sending'
import { DEFAULT_AGENT, useAgents } from '../chat/session/agent'
import { useAction, useParley } from '../context'
import { go } from '../router'
import { examplesAt } from './examples'

/** The draft of the session that there is not yet. */
const DRAFT = 'new'

interface Attempt {
  of: string
  key: string
}

export function StartPage() {
  const { api, touchSessions } = useParley()
  const act = useAction()
  const [agents, retry] = useAgents()
  const [text, setText] = useState(() => draftOf(DRAFT))
  const [agentId, setAgentId] = useState(DEFAULT_AGENT)
  const [isSending, setSending] = useState(false)
  const field = useRef<HTMLTextAreaElement>(null)
  // The same keys for the same words: whatever of it was done before is not done again.
  const attempt = useRef<Attempt | null>(null)

  useLayoutEffect(() => {
    // Not from the search field or a dialog; and not on a phone, whose keyboard would hide the list.
    const isElsewhere = document.getElementById('main')?.contains(document.activeElement) === true || document.querySelector('dialog[open]') !== null
    if (!isElsewhere && !matchMedia('(max-width: 760px)').matches) field.current?.focus()
  }, [])

  const begin = async (words: string): Promise<void> => {
    const content = words.trim()
    if (content === '') return
    const made = { agent_id: agentId }
    const of = jsonText([content, made])
    if (attempt.current?.of !== of) attempt.current = { of, key: randomKey() }
    const { key } = attempt.current
    setSending(true)
    await act(async () => {
      const session = await api.post<Session>('/sessions', made, { 'idempotency-key': `session-${key}` })
      await api.post<PostedTurn>(`/sessions/${encodeURIComponent(session.id)}/messages`, { content }, { 'idempotency-key': `message-${key}` })
      attempt.current = null
      keepDraft(DRAFT, '')
      touchSessions()
      go('sessions', session.id)
    }, 'begin a session')
    setSending(false)
  }

  return (
    <section class="conversation start" aria-labelledby="start-title">
      <div class="inner">
        <h1 id="start-title">What shall we work on?</h1>
        <form
          class="composer"
          aria-label="New session"
          onSubmit={(event) => {
            event.preventDefault()
            void begin(text)
          }}
        >
          <div class="line">
            <textarea
              ref={field}
              rows={2}
              aria-label="First message"
              dir="auto"
              placeholder="Ask something. Enter starts a session with it."
              value={text}
              onInput={(event) => {
                keepDraft(DRAFT, event.currentTarget.value)
                setText(event.currentTarget.value)
              }}
              onKeyDown={(event) => {
                // As in the composer: 229 marks the Enter that ends the writing of a word in another script.
                if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
                  event.preventDefault()
                  void begin(text)
                }
              }}
            />
            <button type="submit" class="primary" disabled={isSending} aria-label="Start">
              <Icon name="send" />
            </button>
          </div>
        </form>
        <section class="examples" aria-label="Examples">
          <h2>Try one of these</h2>
          <ul>
            {examplesAt(window.location).map(({ name, about, prompt }) => (
              <li key={name}>
                <button type="button" disabled={isSending} title={prompt} onClick={() => void begin(prompt)}>
                  <strong>{name}</strong>
                  <small>{about}</small>
                </button>
              </li>
            ))}
          </ul>
        </section>
        <When state={agents} what="agents" retry={retry}>
          {(all) => <AgentCards agents={all} chosen={agentId} choose={setAgentId} />}
        </When>
      </div>
    </section>
  )
}

function AgentCards({ agents, chosen, choose }: { agents: readonly Agent[]; chosen: string; choose: (id: string) => void }) {
  return (
    <fieldset class="choices agent-cards">
      <legend>{agents.length < 2 ? 'Who answers' : 'Who answers: choose an agent'}</legend>
      {agents.map(({ id, name, description, model }) => (
        <label key={id} class="choice">
          <input type="radio" name="agent" value={id} checked={id === chosen} onChange={() => choose(id)} />
          <span>
            <strong>{name}</strong>
            {description === null ? null : <small>{description}</small>}
            <small class="model">{model ?? 'The default model'}</small>
          </span>
        </label>
      ))}
    </fieldset>
  )
}
