import { Icon } from '../bits'
import { useParley } from '../context'
import { link } from '../router'

const ROOMS: readonly { room: string; name: string; about: string; role: string | null }[] = [
  { room: 'agents', name: 'Agents', about: 'What sessions talk to: instructions, model, tools, policies; each change is a version.', role: 'admin' },
  { room: 'playground', name: 'Playground', about: 'One message to two versions of an agent, side by side.', role: 'admin' },
  { room: 'policies', name: 'Approval policies', about: 'Which calls wait for whom, in words, by version; and what would happen to a call.', role: null },
  { room: 'mcp', name: 'MCP servers', about: 'Servers whose tools agents use, what is pinned of them, and what they say now.', role: 'admin' },
  { room: 'tools', name: 'Tools', about: 'The tools of this service.', role: null },
  { room: 'schedules', name: 'Schedules', about: 'Messages of yours that are posted at their time.', role: null },
  { room: 'triggers', name: 'Triggers', about: 'Messages of yours that are posted when somebody fires them.', role: null },
  { room: 'webhooks', name: 'Webhooks', about: 'Where others are told of your turns.', role: null },
]

/** The rooms in which things are made rather than talked to. */
export function BuildPage() {
  const { me } = useParley()
  return (
    <div class="page narrow">
      <h1>Build</h1>
      <ul class="cards">
        {ROOMS.map(({ room, name, about, role }) => (
          <li key={room}>
            <a class="card" href={link(room)}>
              <span class="line">
                <strong>{name}</strong>
                {role === null || me?.roles.includes(role) === true ? null : <small>changes take the role {role}</small>}
              </span>
              <span class="meta">{about}</span>
            </a>
          </li>
        ))}
      </ul>
    </div>
  )
}

export function BackToBuild() {
  return (
    <p>
      <a class="quiet" href={link('build')}>
        <Icon name="back" /> Build
      </a>
    </p>
  )
}
