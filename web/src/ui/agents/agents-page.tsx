import { Empty, When } from '../bits'
import { BackToBuild } from '../build/build-page'
import { NeedsAdmin } from '../build/needs-role'
import { useAgents } from '../chat/session/agent'
import { useParley } from '../context'
import { go, link } from '../router'

/** The agents. Everyone may read them; an admin creates agents and versions. */
export function AgentsPage() {
  const { me } = useParley()
  const [agents, retry] = useAgents()
  const isAdmin = me?.roles.includes('admin') === true
  return (
    <div class="page narrow">
      <BackToBuild />
      <header class="page-head">
        <h1>Agents</h1>
        <a href={link('tools')}>All tools</a>
      </header>
      <When state={agents} what="agents" retry={retry}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No agents" />
          ) : (
            <ul class="cards">
              {all.map(({ id, name, version, description }) => (
                <li key={id}>
                  <a class="card" href={link('agents', id)}>
                    <span class="line">
                      <strong>{name}</strong>
                      <small>version {version}</small>
                    </span>
                    <span class="meta">{description ?? id}</span>
                  </a>
                </li>
              ))}
            </ul>
          )
        }
      </When>
      <NeedsAdmin to="Creating agents" />
      {isAdmin ? (
        <form
          class="beside"
          aria-label="New agent"
          onSubmit={(event) => {
            event.preventDefault()
            go('agents', (new FormData(event.currentTarget).get('id') as string).trim())
          }}
        >
          <label class="field">
            Id of a new agent
            <input name="id" required maxLength={64} pattern="[A-Za-z0-9][A-Za-z0-9_.\-]*" placeholder="librarian" />
          </label>
          <button type="submit">Begin</button>
        </form>
      ) : null}
    </div>
  )
}
