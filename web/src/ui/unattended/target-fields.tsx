// What a schedule or a trigger posts, and where: the fields that both have.

import { useState } from 'preact/hooks'
import { parsedJson, type NewTrigger, type Schedule } from '../../client'
import { When } from '../bits'
import { DEFAULT_AGENT, useAgents } from '../chat/session/agent'

/** Of a name that people may read: letters, digits, `_`, `.` and `-`. */
export const ID_PATTERN = '[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}'

export interface Target {
  content: string
  session_id: string | null
  agent_id: string | null
}

export const BLANK_TARGET: Target = { content: '', session_id: null, agent_id: null }

/** A body with the target as it was, for a PUT that changes something else. agent_id and config are of new sessions only. */
export function targetOf({ name, content, session_id, agent_id, config, approval_mode }: Pick<Schedule, 'name' | 'content' | 'session_id' | 'agent_id' | 'config' | 'approval_mode'>): NewTrigger {
  const common = { name, content, approval_mode }
  return session_id === null ? { ...common, agent_id, config } : { ...common, session_id }
}

export function TargetFields({ target, change }: { target: Target; change: (part: Partial<Target>) => void }) {
  const [agents, retry] = useAgents()
  const [isNew, setNew] = useState(target.session_id === null)
  return (
    <>
      <label class="field">
        Message
        <textarea required rows={3} maxLength={32_000} value={target.content} onInput={(event) => change({ content: event.currentTarget.value })} />
      </label>
      <label class="field">
        Posted to
        <select
          value={isNew ? 'new' : 'one'}
          onChange={(event) => {
            setNew(event.currentTarget.value === 'new')
            change({ session_id: null, agent_id: null })
          }}
        >
          <option value="new">a new session each time</option>
          <option value="one">one session</option>
        </select>
      </label>
      {isNew ? (
        <When state={agents} what="agents" retry={retry}>
          {(all) => (
            <label class="field">
              Agent
              <select value={target.agent_id ?? DEFAULT_AGENT} onChange={(event) => change({ agent_id: event.currentTarget.value })}>
                {all.map(({ id, name }) => (
                  <option key={id} value={id}>
                    {name}
                  </option>
                ))}
              </select>
            </label>
          )}
        </When>
      ) : (
        <label class="field">
          Id of the session
          <input required maxLength={64} value={target.session_id ?? ''} onInput={(event) => change({ session_id: event.currentTarget.value.trim() || null })} />
        </label>
      )}
    </>
  )
}

export function whereWords({ session_id, agent_id }: Pick<Schedule, 'session_id' | 'agent_id'>): string {
  return session_id === null ? `a new session of ${agent_id ?? DEFAULT_AGENT} each time` : `session ${session_id}`
}

/** JSON that somebody typed; nothing: no payload. */
export function payloadOf(text: string): { ok: true; value: unknown } | { ok: false; problem: string } {
  if (text.trim() === '') return { ok: true, value: null }
  try {
    return { ok: true, value: parsedJson(text, true) }
  } catch (error) {
    return { ok: false, problem: error instanceof Error ? error.message : 'Not valid JSON.' }
  }
}
