// The agent of a session: shown and changed in its header.

import { useState } from 'preact/hooks'
import type { Agent, Session } from '../../../client'
import { Dialog, When } from '../../bits'
import { useLoaded, useParley, type Loaded } from '../../context'
import { link } from '../../router'

/** The agent of a session that names none. */
export const DEFAULT_AGENT = 'assistant'

export function useAgents(): [Loaded<Agent[]>, () => void] {
  const { api } = useParley()
  return useLoaded(() => api.all<Agent>('/agents'), [api])
}

/** The agent's name and its newest version, which answers the next message. */
export function SessionAgent({ session, change }: { session: Session; change: (work: () => Promise<Session>) => Promise<boolean> }) {
  const [agents, retry] = useAgents()
  const [isOpen, setOpen] = useState(false)
  const id = session.agent_id ?? DEFAULT_AGENT
  const agent = agents.phase === 'ready' ? agents.value.find((other) => other.id === id) : undefined
  return (
    <>
      <button type="button" class="quiet agent" title="Agent" onClick={() => setOpen(true)}>
        {agent?.name ?? id}
        {agent === undefined ? null : <small>{session.agent_version == null ? `version ${agent.version}` : session.agent_version === 0 ? 'trial of a draft' : `trial of version ${session.agent_version}`}</small>}
      </button>
      {isOpen ? (
        <Dialog title="Agent" close={() => setOpen(false)}>
          <When state={agents} what="agents" retry={retry}>
            {(all) => <Choice agents={all} session={session} current={id} change={change} close={() => setOpen(false)} />}
          </When>
        </Dialog>
      ) : null}
    </>
  )
}

interface ChoiceProps {
  agents: readonly Agent[]
  session: Session
  current: string
  change: (work: () => Promise<Session>) => Promise<boolean>
  close: () => void
}

function Choice({ agents, session, current, change, close }: ChoiceProps) {
  const { api } = useParley()
  const [chosen, setChosen] = useState(current)
  const isOver = session.status === 'ENDED'
  const isFixed = isOver || agents.length < 2
  const save = async (): Promise<void> => {
    const path = `/sessions/${encodeURIComponent(session.id)}`
    if (chosen === current || (await change(() => api.patch<Session>(path, { agent_id: chosen })))) close()
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault()
        void save()
      }}
    >
      <fieldset class="choices">
        <legend>{isOver ? 'The session has ended: its agent stays.' : isFixed ? 'The only agent.' : 'The agent from the next message on'}</legend>
        {agents.map((agent) => (
          <label key={agent.id} class="choice">
            <input
              type="radio"
              name="agent"
              value={agent.id}
              checked={agent.id === chosen}
              disabled={isFixed}
              autofocus={agent.id === chosen}
              onChange={() => setChosen(agent.id)}
            />
            <span>
              <strong>{agent.name}</strong>
              <small>{about(agent)}</small>
            </span>
          </label>
        ))}
      </fieldset>
      <footer>
        <a class="quiet" href={link('agents', chosen)}>
          Instructions
        </a>
        <button type="button" onClick={close}>
          {isFixed ? 'Close' : 'Cancel'}
        </button>
        {isFixed ? null : (
          <button type="submit" class="primary">
            Choose
          </button>
        )}
      </footer>
    </form>
  )
}

function about({ description, version, model, tools }: Agent): string {
  const facts = [
    `version ${version}`,
    ...(model === null ? [] : [model]),
    tools === null ? 'all tools' : tools.length === 0 ? 'no tools' : `tools: ${tools.join(', ')}`,
  ]
  return `${description === null ? '' : `${description} · `}${facts.join(' · ')}`
}
