// Settings of a session's turns: reasoning effort, output schema, cost limits. Only changed fields are sent, and the
// service's errors are shown at their fields.

import { useState } from 'preact/hooks'
import { ApiError, jsonText, parsedJson, type ReasoningEffort, type Session, type SessionConfig } from '../../../client'
import { Dialog } from '../../bits'
import { useParley, words } from '../../context'

export const EFFORTS: readonly ReasoningEffort[] = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max']
const COSTS = [
  { field: 'max_turn_cost_usd', label: 'Cost limit of one turn, in US dollars' },
  { field: 'max_session_cost_usd', label: 'Cost limit of the session, in US dollars' },
] as const

type Field = 'reasoning_effort' | 'output_schema' | (typeof COSTS)[number]['field']
type Typed = Record<Field, string>
type Problems = Partial<Record<Field | 'all', string>>

export function SettingsDialog({ session, saved, close }: { session: Session; saved: (session: Session) => void; close: () => void }) {
  const { api } = useParley()
  const [before] = useState(() => typedOf(session.config))
  const [typed, setTyped] = useState(before)
  const [problems, setProblems] = useState<Problems>({})
  const [isSending, setSending] = useState(false)
  const isOver = session.status === 'ENDED'
  const put = (field: Field, text: string): void => {
    setTyped((now) => ({ ...now, [field]: text }))
    setProblems(({ [field]: _gone, ...others }) => others)
  }

  const save = async (): Promise<void> => {
    const changed = (Object.keys(typed) as Field[]).filter((field) => typed[field].trim() !== before[field])
    if (changed.length === 0) return close()
    const config: Partial<Record<Field, unknown>> = {}
    for (const field of changed) {
      const read = valueOf(field, typed[field].trim())
      if (!read.ok) return setProblems({ [field]: read.problem })
      config[field] = read.value
    }
    setSending(true)
    try {
      saved(await api.patch<Session>(`/sessions/${encodeURIComponent(session.id)}`, { config }))
      close()
    } catch (error) {
      setProblems(problemsOf(error))
      setSending(false)
    }
  }

  /** ARIA attributes that link a field to its error. */
  const about = (field: Field): object =>
    problems[field] === undefined ? {} : { 'aria-invalid': true, 'aria-describedby': `problem-${field}` }
  const wrong = (field: Field) =>
    problems[field] === undefined ? null : (
      <p id={`problem-${field}`} class="problem" role="alert">
        {problems[field]}
      </p>
    )

  return (
    <Dialog title="Settings" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void save()
        }}
      >
        <p class="hint">{isOver ? 'The session has ended: its settings stay.' : 'From the next message on. Empty fields use the defaults of the agent and its model.'}</p>
        <fieldset class="plain" disabled={isOver}>
          <div>
            <label class="field">
              Reasoning effort
              <select autofocus={!isOver} value={typed.reasoning_effort} {...about('reasoning_effort')} onChange={(event) => put('reasoning_effort', event.currentTarget.value)}>
                <option value="">Not set</option>
                {EFFORTS.map((effort) => (
                  <option key={effort} value={effort}>
                    {effort}
                  </option>
                ))}
              </select>
            </label>
            {wrong('reasoning_effort')}
          </div>
          <div>
            <label class="field">
              Output schema
              <textarea
                class="code"
                rows={4}
                spellcheck={false}
                placeholder={'{"type": "object", "properties": {…}}'}
                value={typed.output_schema}
                {...about('output_schema')}
                onInput={(event) => put('output_schema', event.currentTarget.value)}
              />
            </label>
            {wrong('output_schema')}
            <p class="hint">A JSON Schema that the final answer satisfies. Empty: the answer is text.</p>
          </div>
          {COSTS.map(({ field, label }) => (
            <div key={field}>
              <label class="field">
                {label}
                <input type="number" min={0} step="any" placeholder="No limit" value={typed[field]} {...about(field)} onInput={(event) => put(field, event.currentTarget.value)} />
              </label>
              {wrong(field)}
            </div>
          ))}
        </fieldset>
        {problems.all === undefined ? null : (
          <p class="problem" role="alert">
            {problems.all}
          </p>
        )}
        <footer>
          <button type="button" onClick={close}>
            {isOver ? 'Close' : 'Cancel'}
          </button>
          {isOver ? null : (
            <button type="submit" class="primary" disabled={isSending}>
              Save
            </button>
          )}
        </footer>
      </form>
    </Dialog>
  )
}

function typedOf(config: SessionConfig): Typed {
  const { reasoning_effort, output_schema, max_turn_cost_usd, max_session_cost_usd } = config
  return {
    reasoning_effort: reasoning_effort ?? '',
    output_schema: output_schema == null ? '' : jsonText(output_schema, 2),
    max_turn_cost_usd: max_turn_cost_usd == null ? '' : String(max_turn_cost_usd),
    max_session_cost_usd: max_session_cost_usd == null ? '' : String(max_session_cost_usd),
  }
}

/** The request for the typed values; null removes a setting. */
export function valueOf(field: Field, text: string): { ok: true; value: unknown } | { ok: false; problem: string } {
  if (text === '') return { ok: true, value: null }
  if (field === 'reasoning_effort') return { ok: true, value: text }
  if (field !== 'output_schema') return { ok: true, value: Number(text) }
  try {
    const value = parsedJson(text, true)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ok: true, value }
    return { ok: false, problem: 'A schema is a JSON object.' }
  } catch (error) {
    return { ok: false, problem: `This is not valid JSON: ${words(error)}` }
  }
}

/** The service's errors by field (`config.output_schema` or below); errors without a field apply to the whole form. */
export function problemsOf(error: unknown): Problems {
  const found: Problems = {}
  const told = error instanceof ApiError ? (error.problem?.errors ?? []) : []
  for (const { field, message } of told) {
    const name = field.split('.')[1] as Field
    if (!field.startsWith('config.') || !(name in FIELDS)) return { all: words(error) }
    // Its own checks say "is not …" of the field.
    found[name] ??= /^[a-z]/.test(message) ? `${FIELDS[name]}${message}` : message
  }
  return told.length > 0 ? found : { all: words(error) }
}

const FIELDS: Record<Field, string> = {
  reasoning_effort: '',
  output_schema: 'The schema ',
  max_turn_cost_usd: '',
  max_session_cost_usd: '',
}
