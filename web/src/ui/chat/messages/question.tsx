// What a tool call asks its user in the middle of its work: the questions as forms, and the answer.
//
// Invariant: words and fields come from an MCP server that nobody here vouches for. They are shown as text, under its name.

import { useState } from 'preact/hooks'
import type { InputAnswer, Question, ToolWait } from '../../../client'
import { Deadline, Time, span } from '../../bits'
import { useAction, useNow, useParley } from '../../context'
import { contentOf, fieldsOf, type Field } from './fields'

type Values = Record<string, Record<string, string | string[]>>

export function Asked({ wait }: { wait: ToolWait }) {
  const { me } = useParley()
  if (wait.status !== 'pending') return <Over wait={wait} />
  if (wait.kind !== 'input') return <Later wait={wait} />
  // The service checks who may answer; a caller who is not known yet may try.
  return me === null || me.name === wait.asked_of ? <Form wait={wait} /> : <Elsewhere wait={wait} />
}

function Form({ wait }: { wait: ToolWait }) {
  const { api } = useParley()
  const act = useAction()
  const now = useNow(true)
  const [values, setValues] = useState<Values>({})
  const [isSending, setSending] = useState(false)

  const send = async (answer: (question: Question) => InputAnswer): Promise<void> => {
    setSending(true)
    const answers = Object.fromEntries(wait.questions.map((question) => [question.id, answer(question)]))
    await act(() => api.post<ToolWait>(`/tool-calls/${encodeURIComponent(wait.tool_call_id)}/input`, { wait_id: wait.id, answers }))
    setSending(false)
  }
  const accepted = (question: Question): InputAnswer => ({
    action: 'accept',
    content: contentOf(fieldsOf(question), values[question.id] ?? {}),
  })
  const said = (action: 'decline' | 'cancel') => () => send(() => ({ action, content: null }))

  return (
    <form
      class="question"
      aria-label={`Questions of ${wait.tool}`}
      onSubmit={(event) => {
        event.preventDefault()
        void send(accepted)
      }}
    >
      <p class="waiting">
        <span>
          {wait.asked_by === null ? 'You are asked' : <>The MCP server <strong>{wait.asked_by}</strong> asks you</>}, until{' '}
          <Deadline at={wait.expires_at} /> ({span(Date.parse(wait.expires_at) - now)} left)
        </span>
      </p>
      {wait.questions.map((question) => (
        <fieldset key={question.id}>
          <legend>{question.message || 'It says nothing about what for.'}</legend>
          {fieldsOf(question).map((field) => (
            <Input
              key={field.name}
              field={field}
              value={values[question.id]?.[field.name] ?? field.initial}
              change={(value) => setValues({ ...values, [question.id]: { ...values[question.id], [field.name]: value } })}
            />
          ))}
        </fieldset>
      ))}
      <p class="hint">Your answer goes to {wait.asked_by === null ? 'whoever asks' : `the server ${wait.asked_by}`}. Enter no passwords or card numbers.</p>
      <div class="buttons">
        <button type="submit" class="primary" disabled={isSending}>
          Send
        </button>
        <button type="button" disabled={isSending} onClick={said('decline')}>
          Decline
        </button>
        <button type="button" class="quiet" disabled={isSending} onClick={said('cancel')}>
          Dismiss
        </button>
      </div>
    </form>
  )
}

interface InputProps {
  field: Field
  value: string | string[]
  change: (value: string | string[]) => void
}

function Input({ field, value, change }: InputProps) {
  const label = field.isRequired ? field.label : `${field.label} (optional)`
  const about = field.about === '' ? null : <small>{field.about}</small>
  if (field.kind === 'many') {
    const chosen = new Set(value)
    return (
      <fieldset class="many">
        <legend>{label}</legend>
        {about}
        {field.options.map((option) => (
          <label key={option.value}>
            <input
              type="checkbox"
              checked={chosen.has(option.value)}
              onChange={({ currentTarget }) => {
                const others = [...chosen].filter((one) => one !== option.value)
                change(currentTarget.checked ? [...others, option.value] : others)
              }}
            />{' '}
            {option.label}
          </label>
        ))}
      </fieldset>
    )
  }
  return (
    <label>
      <span>{label}</span>
      {about}
      {field.kind === 'one' ? (
        <select value={String(value)} required={field.isRequired} onChange={({ currentTarget }) => change(currentTarget.value)}>
          <option value="">…</option>
          {field.options.map((option) => (
            <option key={option.value} value={option.value}>
              {option.label}
            </option>
          ))}
        </select>
      ) : (
        <input {...({ type: field.kind, ...field.limits } as object)} value={String(value)} required={field.isRequired} onInput={({ currentTarget }) => change(currentTarget.value)} />
      )}
    </label>
  )
}

/** A result that comes from outside. */
function Later({ wait }: { wait: ToolWait }) {
  return (
    <p class="waiting">
      <span>
        Waits for its result{wait.kind === 'client' ? ` from a client of ${wait.asked_of}` : ''} until <Deadline at={wait.expires_at} />
      </span>
    </p>
  )
}

/** For those who watch. */
function Elsewhere({ wait }: { wait: ToolWait }) {
  return (
    <p class="waiting">
      <span>
        Waits for {wait.asked_of} to answer “{wait.questions.map(({ message }) => message).join('” and “')}” until <Deadline at={wait.expires_at} />
      </span>
    </p>
  )
}

const WORDS: Record<string, string> = { answered: 'answered', timed_out: 'not answered in time', cancelled: 'not answered: the turn ended' }

function Over({ wait }: { wait: ToolWait }) {
  const actions = Object.values(wait.actions ?? {})
  const word = wait.status === 'answered' && actions.length > 0 && actions.every((action) => action !== 'accept') ? 'declined' : WORDS[wait.status]
  return (
    <p class="decided">
      {word}
      {wait.ended_by == null ? null : ` by ${wait.ended_by}`}
      {wait.ended_at == null ? null : (
        <>
          {' '}
          at <Time at={wait.ended_at} />
        </>
      )}
    </p>
  )
}
