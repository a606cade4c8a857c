import type { Agent, ToolInfo } from '../../client'
import { Empty, When } from '../bits'
import { BackToBuild } from '../build/build-page'
import { NeedsAdmin } from '../build/needs-role'
import { useAgents } from '../chat/session/agent'
import { useLoaded, useParley } from '../context'
import { versionsOf } from '../playground/trials'
import { link, put, usePath } from '../router'
import { people } from '../approvals/deciding'
import { draftOf } from './drafts'
import { pinnedTools } from './pinned-tools'
import { Policies } from './policy-test'

/** The approval policies of all agents, and those of one version in words with their test: `#/policies/AGENT/VERSION`. */
export function PoliciesPage() {
  const { api } = useParley()
  const [agents, retry] = useAgents()
  const [tools, retryTools] = useLoaded(() => api.all<ToolInfo>('/tools'), [api])
  const [, chosen, version] = usePath()
  return (
    <div class="page">
      <BackToBuild />
      <h1>Approval policies</h1>
      <p class="hint">A policy says which calls of a tool wait for a person, who decides, and how many it takes. It is part of a version of an agent.</p>
      <NeedsAdmin to="Changing a policy, which makes a new version of its agent," />
      <When state={agents} what="agents" retry={retry}>
        {(all) => (
          <>
            <Overview agents={all} />
            <When state={tools} what="tools" retry={retryTools}>
              {(known) => {
                const agent = all.find(({ id }) => id === chosen) ?? all.find(({ policies }) => Object.keys(policies).length > 0) ?? all[0]
                if (chosen !== undefined && agent?.id !== chosen) return <NotHere what={`There is no agent ${chosen}.`} />
                if (agent !== undefined && version !== undefined && !versionsOf(agent).map(String).includes(version)) return <NotHere what={`${agent.name} has no version ${version}.`} />
                return agent === undefined ? <Empty title="No agents" /> : <OfAgent key={agent.id} agents={all} newest={agent} version={Number(version) || agent.version} tools={known} />
              }}
            </When>
          </>
        )}
      </When>
    </div>
  )
}

function NotHere({ what }: { what: string }) {
  return (
    <p class="problem" role="alert">
      {what} <a href={link('policies')}>All policies</a>
    </p>
  )
}

/** What agents set of their own; the rest is the tools' default. */
function Overview({ agents }: { agents: readonly Agent[] }) {
  const rows = agents.flatMap((agent) => [...new Set([...Object.keys(agent.policies), ...Object.keys(agent.approval_floor)])].sort().map((tool) => ({ agent, tool })))
  if (rows.length === 0) return <p class="hint">No agent sets a policy of its own: the tools’ defaults hold.</p>
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="All policies">
      <table class="figures">
        <thead>
          <tr>
            {['Agent', 'Tool', 'Calls wait', 'Decided by', 'Rules', 'Floor'].map((name) => (
              <th key={name}>{name}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ agent, tool }) => {
            const policy = agent.policies[tool]
            return (
              <tr key={`${agent.id} ${tool}`}>
                <td>
                  <a href={link('policies', agent.id)}>{agent.name}</a>
                </td>
                <td>
                  <code>{tool}</code>
                </td>
                <td>{policy === undefined || policy.required === null ? 'as the tool says' : policy.required ? 'always' : (policy.rules ?? []).length > 0 ? 'if a rule holds' : 'never'}</td>
                <td>{policy === undefined ? '' : people(policy)}</td>
                <td>{(policy?.rules ?? []).map(({ name }) => name).join(', ')}</td>
                <td>{agent.approval_floor[tool] ?? ''}</td>
              </tr>
            )
          })}
        </tbody>
      </table>
    </div>
  )
}

interface Shown {
  agents: readonly Agent[]
  newest: Agent
  version: number
  tools: ToolInfo[]
}

function OfAgent({ agents, newest, version, tools }: Shown) {
  const wanted = Math.min(newest.version, Math.max(1, version))
  return (
    <section aria-label="One agent">
      <div class="policy">
        <label class="field">
          Agent
          <select value={newest.id} onChange={(event) => put('policies', event.currentTarget.value)}>
            {agents.map(({ id, name }) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label class="field">
          Version
          <select value={String(wanted)} onChange={(event) => put('policies', newest.id, event.currentTarget.value)}>
            {versionsOf(newest).map((number) => (
              <option key={number} value={String(number)}>
                {number === newest.version ? `${number}, the newest` : number}
              </option>
            ))}
          </select>
        </label>
        <a href={link('agents', newest.id)}>To its editor</a>
      </div>
      <OfVersion key={wanted} newest={newest} version={wanted} tools={tools} />
    </section>
  )
}

/** Made anew for each version: what is written in the test of one is not taken for another's, and not lost when that one arrives. */
function OfVersion({ newest, version, tools }: Omit<Shown, 'agents'>) {
  const { api } = useParley()
  const [state, retry] = useLoaded(() => api.get<Agent>(`/agents/${encodeURIComponent(newest.id)}`, { version }), [api, newest.id, version])
  return (
    <When state={state} what="the version" retry={retry}>
      {(agent) => <Policies agentId={agent.id} draft={draftOf(agent)} isChanged={version !== newest.version} tools={tools} pinned={pinnedTools(agent, tools)} />}
    </When>
  )
}
