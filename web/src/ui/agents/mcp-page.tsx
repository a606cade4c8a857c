import { useState } from 'preact/hooks'
import type { Agent } from '../../client'
import { Dialog, Empty, When } from '../bits'
import { BackToBuild } from '../build/build-page'
import { NeedsAdmin, useIsAdmin } from '../build/needs-role'
import { useAgents } from '../chat/session/agent'
import { useAction, useLoaded, useParley } from '../context'
import { link } from '../router'
import { draftOf } from './drafts'
import { McpServers } from './mcp-servers'

/** The MCP servers of all agents: their tools, what is pinned of them, and what they say now. */
export function McpPage() {
  const isAdmin = useIsAdmin()
  const [agents, retry] = useAgents()
  const [isAdding, setAdding] = useState(false)
  return (
    <div class="page narrow">
      <BackToBuild />
      <header class="page-head">
        <h1>MCP servers</h1>
        {isAdmin ? (
          <button type="button" class="primary" onClick={() => setAdding(true)}>
            Add a server
          </button>
        ) : null}
      </header>
      <p class="hint">An agent names the servers whose tools it uses. Which hosts may be named, and with which credentials, the operator says (MCP_ALLOW).</p>
      <NeedsAdmin to="Adding servers, and asking them what they say now," />
      <When state={agents} what="agents" retry={retry}>
        {(all) => {
          const using = all.filter(({ mcp_servers }) => mcp_servers.length > 0)
          return (
            <>
              {using.length === 0 ? <Empty title="No agent uses an MCP server" /> : using.map(({ id, version }) => <OfAgent key={`${id} ${version}`} agentId={id} isAdmin={isAdmin} saved={retry} />)}
              {isAdding ? (
                <AddServer
                  agents={all}
                  close={() => setAdding(false)}
                  saved={() => {
                    setAdding(false)
                    retry()
                  }}
                />
              ) : null}
            </>
          )
        }}
      </When>
    </div>
  )
}

function OfAgent({ agentId, isAdmin, saved }: { agentId: string; isAdmin: boolean; saved: () => void }) {
  const { api } = useParley()
  const [state, retry] = useLoaded(() => api.tagged<Agent>(`/agents/${encodeURIComponent(agentId)}`), [api, agentId])
  return (
    <article class="card" aria-label={`Servers of ${agentId}`}>
      <When state={state} what="the agent" retry={retry}>
        {({ value, etag }) => (
          <>
            <span class="line">
              <strong>
                <a href={link('agents', agentId)}>{value.name}</a>
              </strong>
              <small>version {value.version}</small>
            </span>
            <McpServers agent={value} etag={etag} isAdmin={isAdmin} saved={saved} />
          </>
        )}
      </When>
    </article>
  )
}

type Credential = 'none' | 'header' | 'managed_identity'

function AddServer({ agents, close, saved }: { agents: readonly Agent[]; close: () => void; saved: () => void }) {
  const { api, say } = useParley()
  const act = useAction()
  const [agentId, setAgentId] = useState(agents[0]?.id ?? '')
  const [name, setName] = useState('')
  const [url, setUrl] = useState('')
  const [tools, setTools] = useState('')
  const [kind, setKind] = useState<Credential>('none')
  const [header, setHeader] = useState('Authorization')
  const [secret, setSecret] = useState('')
  const [scope, setScope] = useState('')
  const add = (): Promise<boolean> =>
    act(async () => {
      const path = `/agents/${encodeURIComponent(agentId)}`
      const { value, etag } = await api.tagged<Agent>(path)
      const server = {
        name,
        url,
        tools: tools.split(/[\s,]+/).filter((tool) => tool !== ''),
        credentials: kind === 'none' ? null : kind === 'header' ? { kind, name: header, secret } : { kind, scope },
      }
      const now = await api.put<Agent>(path, { ...draftOf(value), mcp_servers: [...value.mcp_servers, server] }, etag === null ? {} : { 'if-match': etag })
      say(`${now.name} uses it from version ${now.version} on. Its definitions are pinned.`)
      saved()
    }, 'add a server')
  return (
    <Dialog title="Add a server" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void add()
        }}
      >
        <label class="field">
          For the agent
          <select value={agentId} onChange={(event) => setAgentId(event.currentTarget.value)}>
            {agents.map((agent) => (
              <option key={agent.id} value={agent.id}>
                {agent.name}
              </option>
            ))}
          </select>
        </label>
        <label class="field">
          Name, which stands before the names of its tools
          <input required autofocus maxLength={32} placeholder="crm" value={name} onInput={(event) => setName(event.currentTarget.value.trim())} />
        </label>
        <label class="field">
          Its MCP endpoint
          <input required type="url" placeholder="https://crm.example.com/mcp" value={url} onInput={(event) => setUrl(event.currentTarget.value.trim())} />
        </label>
        <label class="field">
          Exact names of its tools, with spaces between
          <input required placeholder="notes.search notes.add" value={tools} onInput={(event) => setTools(event.currentTarget.value)} />
        </label>
        <label class="field">
          Credentials
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value as Credential)}>
            <option value="none">none</option>
            <option value="header">a secret of the app in a header</option>
            <option value="managed_identity">the identity of the app</option>
          </select>
        </label>
        {kind === 'header' ? (
          <>
            <label class="field">
              Header
              <input required value={header} onInput={(event) => setHeader(event.currentTarget.value)} />
            </label>
            <label class="field">
              Name of the secret
              <input required placeholder="CRM_TOKEN" value={secret} onInput={(event) => setSecret(event.currentTarget.value)} />
            </label>
          </>
        ) : kind === 'managed_identity' ? (
          <label class="field">
            Scope
            <input required placeholder="api://crm/.default" value={scope} onInput={(event) => setScope(event.currentTarget.value)} />
          </label>
        ) : null}
        <p class="hint">A person decides each call of its tools, until rules are set through the API.</p>
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Add it
          </button>
        </footer>
      </form>
    </Dialog>
  )
}
