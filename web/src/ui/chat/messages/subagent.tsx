// An agent that a tool call asked: folded, with its own calls and the agents that these asked.

import { isOver, type Subagents } from '../../../client'
import { Badge, Icon } from '../../bits'
import { useAction, useParley } from '../../context'
import { link } from '../../router'

interface Shown {
  callId: string
  subagents: Subagents
}

export function Subagent({ callId, subagents }: Shown) {
  const { api } = useParley()
  const act = useAction()
  const shown = subagents[callId]
  if (shown === undefined) return null
  const waits = shown.status === 'waiting_approval'
  const isOpen = !isOver(shown.status)
  return (
    <details class="subagent" aria-label={`Agent ${shown.agent_id}`} open={waits}>
      <summary>
        <Icon name="tool" />
        <span class="gist">{shown.agent_id}</span>
        <Badge status={shown.status} label={waits ? 'waits for approval' : shown.background && isOpen ? 'works in the background' : shown.status} />
      </summary>
      {shown.text === '' ? null : <p class="plain">{shown.text}</p>}
      {waits ? (
        <p class="waiting">
          {/* From the store it is not known what it asks for; the inbox of who may decide says it. */}
          <span>{shown.approval === null ? 'Asks for an approval' : `Asks to run ${shown.approval.tool}`}</span>
          <a class="button" href={shown.approval === null ? link('approvals') : link('approvals', shown.approval.id)}>
            Review
          </a>
        </p>
      ) : null}
      {shown.calls.map(({ id, name }) => (
        <div key={id}>
          <p class="decided">
            <code>{name}</code>
          </p>
          <Subagent callId={id} subagents={subagents} />
        </div>
      ))}
      <p class="decided">
        <a href={link('sessions', shown.session_id)}>Its session</a>
        {shown.background && isOpen ? (
          <button
            type="button"
            class="quiet small"
            onClick={() => void act(() => api.post(`/sessions/${encodeURIComponent(shown.session_id)}/turns/${encodeURIComponent(shown.turn_id)}/cancel`), `stop ${shown.turn_id}`)}
          >
            Cancel it
          </button>
        ) : null}
      </p>
    </details>
  )
}
