// At the composer: the model, its effort and the limit of cost from the next message on. They are the session's own
// settings; the rest of them is in its dialog.

import { useRef, useState } from 'preact/hooks'
import { type ReasoningEffort, type Session } from '../../../client'
import { Icon } from '../../bits'
import { useParley } from '../../context'
import { DEFAULT_AGENT, useAgents } from './agent'
import { EFFORTS, problemsOf, valueOf } from './settings'

type Field = 'model' | 'reasoning_effort' | 'max_turn_cost_usd'

export function Picker({ session, saved }: { session: Session; saved: (session: Session) => void }) {
  const [isOpen, setOpen] = useState(false)
  const box = useRef<HTMLDetailsElement>(null)
  const { model, reasoning_effort, max_turn_cost_usd } = session.config
  const words = [model ?? 'Default model', reasoning_effort ?? null, max_turn_cost_usd == null ? null : `≤ $${max_turn_cost_usd}`].filter((part) => part !== null).join(' · ')
  const close = (): void => {
    setOpen(false)
    box.current?.querySelector('summary')?.focus()
  }
  return (
    <details
      ref={box}
      class="menu picker"
      onFocusOut={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOpen(false)
      }}
      open={isOpen}
      onToggle={(event) => setOpen(event.currentTarget.open)}
      onKeyDown={(event) => {
        if (event.key === 'Escape') close()
      }}
    >
      <summary class="quiet" aria-label={`Model, effort and cost: ${words}`} title="Model, effort and cost">
        <Icon name="tune" />
        <span>{words}</span>
      </summary>
      {isOpen ? <Choices session={session} saved={saved} close={close} /> : null}
    </details>
  )
}

function Choices({ session, saved, close }: { session: Session; saved: (session: Session) => void; close: () => void }) {
  const { api } = useParley()
  const [agents] = useAgents()
  const [problems, setProblems] = useState<Record<string, string>>({})
  const [isSending, setSending] = useState(false)
  const all = agents.phase === 'ready' ? agents.value : []
  const agent = all.find(({ id }) => id === (session.agent_id ?? DEFAULT_AGENT))
  // The service does not tell which deployments there are; those that an agent names are some.
  const models = [...new Set(all.flatMap(({ model }) => (model === null ? [] : [model])))]
  const { model, reasoning_effort, max_turn_cost_usd } = session.config
  const before: Record<Field, string> = { model: model ?? '', reasoning_effort: reasoning_effort ?? '', max_turn_cost_usd: max_turn_cost_usd == null ? '' : String(max_turn_cost_usd) }
  const save = async (form: HTMLFormElement): Promise<void> => {
    const given = new FormData(form)
    const typed = (Object.keys(before) as Field[]).map((field) => [field, String(given.get(field) ?? '').trim()] as const)
    const config = Object.fromEntries(typed.filter(([field, text]) => text !== before[field]).map(([field, text]) => [field, field === 'model' ? text || null : valued(field, text)]))
    if (Object.keys(config).length === 0) return close()
    setSending(true)
    try {
      saved(await api.patch<Session>(`/sessions/${encodeURIComponent(session.id)}`, { config }))
      close()
    } catch (error) {
      setProblems(problemsOf(error) as Record<string, string>)
      setSending(false)
    }
  }
  return (
    <form
      class="panel"
      // A press beside its fields keeps the focus in it.
      tabIndex={-1}
      aria-label="Model, effort and cost"
      onSubmit={(event) => {
        event.preventDefault()
        void save(event.currentTarget)
      }}
    >
      <label class="field">
        Model
        <input name="model" list="picker-models" autocomplete="off" spellcheck={false} maxLength={128} defaultValue={before.model} placeholder={agent?.model ?? "The app's default"} />
        <datalist id="picker-models">
          {models.map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
      </label>
      <label class="field">
        Effort
        <select name="reasoning_effort" defaultValue={before.reasoning_effort}>
          <option value="">The model's own</option>
          {EFFORTS.map((effort: ReasoningEffort) => (
            <option key={effort} value={effort} selected={effort === before.reasoning_effort}>
              {effort}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        Most that a turn may cost, in US dollars
        <input name="max_turn_cost_usd" type="number" min={0} step="any" placeholder="No limit" defaultValue={before.max_turn_cost_usd} />
      </label>
      {Object.values(problems).map((problem) => (
        <p key={problem} class="problem" role="alert">
          {problem}
        </p>
      ))}
      <p class="hint">From the next message on.</p>
      <button type="submit" class="primary" disabled={isSending}>
        Use these
      </button>
    </form>
  )
}

function valued(field: Exclude<Field, 'model'>, text: string): unknown {
  const read = valueOf(field, text)
  return read.ok ? read.value : text
}
