import { useState } from 'preact/hooks'
import type { Agent, Session, Template } from '../../../client'
import { Dialog, When } from '../../bits'
import { useAction, useLoaded, useParley } from '../../context'
import { go } from '../../router'
import { DEFAULT_AGENT, useAgents } from './agent'

export function NewSession({ close }: { close: () => void }) {
  const { api, touchSessions } = useParley()
  const act = useAction()
  const [name, setName] = useState('')
  const [chosen, setChosen] = useState('general')
  // Until the user chooses one, it is the template's.
  const [agentId, setAgentId] = useState<string | null>(null)
  const [templates, retry] = useLoaded(() => api.all<Template>('/templates'), [api])
  const [agents, retryAgents] = useAgents()
  const make = async (): Promise<void> => {
    const went = await act(async () => {
      const session = await api.post<Session>('/sessions', {
        template: chosen,
        ...(name.trim() === '' ? {} : { name: name.trim() }),
        ...(agentId === null ? {} : { agent_id: agentId }),
      })
      touchSessions()
      go('sessions', session.id)
    }, 'create a session')
    if (went) close()
  }
  return (
    <Dialog title="New session" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void make()
        }}
      >
        <label class="field">
          Name
          <input autofocus value={name} maxLength={200} placeholder="Optional" onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <When state={templates} what="templates" retry={retry}>
          {(all) => (
            <fieldset class="choices">
              <legend>Template</legend>
              {all.map((template) => (
                <label key={template.id} class="choice">
                  <input type="radio" name="template" value={template.id} checked={template.id === chosen} onChange={() => setChosen(template.id)} />
                  <span>
                    <strong>{template.name}</strong>
                    <small>{template.description ?? ''}</small>
                  </span>
                </label>
              ))}
            </fieldset>
          )}
        </When>
        <When state={agents} what="agents" retry={retryAgents}>
          {(all) => {
            const ofTemplate = templates.phase === 'ready' ? templates.value.find(({ id }) => id === chosen)?.agent_id : null
            return <AgentField agents={all} value={agentId ?? ofTemplate ?? DEFAULT_AGENT} choose={setAgentId} />
          }}
        </When>
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Create
          </button>
        </footer>
      </form>
    </Dialog>
  )
}

/** The agent of the session: a choice if there are several. */
function AgentField({ agents, value, choose }: { agents: readonly Agent[]; value: string; choose: (id: string) => void }) {
  const agent = agents.find(({ id }) => id === value)
  const about = agent?.description ?? null
  if (agents.length < 2) {
    return (
      <p class="hint">
        It talks to <strong>{agent?.name ?? value}</strong>, the only agent there is.
      </p>
    )
  }
  return (
    <div>
      <label class="field">
        Agent
        <select value={value} onChange={(event) => choose(event.currentTarget.value)}>
          {agents.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {about === null ? null : <p class="hint">{about}</p>}
    </div>
  )
}
