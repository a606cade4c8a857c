// One agent, and for an admin a form that saves the next version. Versions never change; a concurrent change by someone
// else is reported.

import { useState } from 'preact/hooks'
import { jsonText, type Agent, type Api, type Approval, type ToolInfo } from '../../client'
import { Icon, Time, When } from '../bits'
import { whom } from '../approvals/deciding'
import { NeedsAdmin } from '../build/needs-role'
import { useAction, useLoaded, useParley } from '../context'
import { link } from '../router'
import { AgentTrial } from './agent-trial'
import { draftOf, type Draft } from './drafts'
import { McpServers } from './mcp-servers'
import { pinnedTools } from './pinned-tools'
import { Policies } from './policy-test'

type Policy = Approval['policy']
type Floor = Agent['approval_floor'][string]
interface Loaded {
  /** null: this agent does not exist yet. */
  agent: Agent | null
  etag: string | null
  tools: ToolInfo[]
}

/** Share of the context window; the default when compaction is switched on. */
const COMPACT_AT = 0.8

const BLANK: Draft = {
  name: '',
  description: null,
  instructions: '',
  model: null,
  tools: null,
  mcp_servers: [],
  agents: [],
  background_agents: [],
  hands_over_to: [],
  policies: {},
  approval_floor: {},
  defaults: {},
  vision: false,
  model_api: null,
  model_context_tokens: null,
  compact_at: COMPACT_AT,
  containment: 'rule_of_two',
}

export function AgentPage({ agentId }: { agentId: string }) {
  const { api } = useParley()
  const [state, retry] = useLoaded(() => read(api, agentId), [api, agentId])
  return (
    <div class="page wide-page">
      <p>
        <a class="quiet" href={link('agents')}>
          <Icon name="back" /> All agents
        </a>
      </p>
      <When state={state} what="the agent" retry={retry}>
        {(loaded) => <Form key={loaded.agent?.version ?? 0} agentId={agentId} loaded={loaded} saved={retry} />}
      </When>
    </div>
  )
}

function Form({ agentId, loaded: { agent, etag, tools }, saved }: { agentId: string; loaded: Loaded; saved: () => void }) {
  const { api, me, say } = useParley()
  const act = useAction()
  const [draft, setDraft] = useState<Draft>(agent === null ? BLANK : draftOf(agent))
  const [isSending, setSending] = useState(false)
  const isAdmin = me?.roles.includes('admin') === true
  const change = (part: Partial<Draft>): void => setDraft((before) => ({ ...before, ...part }))

  const save = async (): Promise<void> => {
    setSending(true)
    await act(async () => {
      const headers: Record<string, string> = etag === null ? {} : { 'if-match': etag }
      const now = await api.put<Agent>(`/agents/${encodeURIComponent(agentId)}`, draft, headers)
      say(now.version === agent?.version ? 'Nothing changed: no new version was saved.' : `Saved as version ${now.version}.`)
      saved()
    })
    setSending(false)
  }

  if (agent === null && !isAdmin) return <p class="problem">There is no such agent.</p>
  const isChanged = agent === null || jsonText(draft) !== jsonText(draftOf(agent))
  const form = (
    <form
      class="agent-form"
      aria-label="Agent"
      onSubmit={(event) => {
        event.preventDefault()
        void save()
      }}
    >
      <header>
        <h1>{agent?.name ?? 'A new agent'}</h1>
        <p class="meta">
          <code>{agentId}</code>
          {agent === null ? ', not saved yet' : `, version ${agent.version}`}
          {agent?.created_by == null ? null : ` by ${agent.created_by}`}
          {agent?.source.path == null ? null : (
            <>
              {' from '}
              <code title={`SHA-256 ${agent.source.sha256}`}>{agent.source.path}</code>
            </>
          )}{' '}
          {agent?.created_at == null ? null : <Time at={agent.created_at} />}
        </p>
        {agent?.source.kind === 'file' && isAdmin ? (
          <p class="hint">This version came with the app. What you save here stays until that file changes.</p>
        ) : null}
        {agent === null || agent.missing_tools.length === 0 ? null : (
          <p class="problem" role="alert">
            Not there, so its turns go without: {agent.missing_tools.join(', ')}
          </p>
        )}
        <NeedsAdmin to="Changing agents and trying them" />
      </header>
      <fieldset disabled={!isAdmin}>
        <label class="field">
          Name
          <input required maxLength={200} value={draft.name} onInput={(event) => change({ name: event.currentTarget.value })} />
        </label>
        <label class="field">
          Description
          <input maxLength={1000} value={draft.description ?? ''} onInput={(event) => change({ description: event.currentTarget.value || null })} />
        </label>
        <label class="field">
          Instructions
          <textarea class="code" required rows={6} maxLength={32_000} value={draft.instructions} onInput={(event) => change({ instructions: event.currentTarget.value })} />
        </label>
        <label class="field">
          Model
          <input maxLength={128} placeholder="The app’s own" value={draft.model ?? ''} onInput={(event) => change({ model: event.currentTarget.value || null })} />
        </label>
        <ModelFields draft={draft} change={change} />
        <label class="check">
          <input type="checkbox" checked={draft.vision} onChange={(event) => change({ vision: event.currentTarget.checked })} />
          The model accepts images
        </label>
        <label class="check">
          <input type="checkbox" checked={draft.containment === 'rule_of_two'} onChange={(event) => change({ containment: event.currentTarget.checked ? 'rule_of_two' : 'off' })} />
          Side effects need an approval once untrusted input and private data come together (rule of two)
        </label>
        <section aria-label="Tools">
          <h2>Tools</h2>
          <label class="check">
            <input type="checkbox" checked={draft.tools === null} onChange={(event) => change({ tools: event.currentTarget.checked ? null : tools.map(({ name }) => name) })} />
            All tools, also future ones
          </label>
          <ul class="places">
            {tools.map((tool) => (
              <ToolRow key={tool.name} tool={tool} draft={draft} change={change} />
            ))}
          </ul>
        </section>
        <label class="field">
          Agents that it may call
          <input placeholder="None" value={draft.agents.join(', ')} onChange={(event) => change({ agents: event.currentTarget.value.split(/[\s,]+/).filter((id) => id !== '') })} />
        </label>
        <label class="field">
          Of these, those that work in the background
          <input placeholder="None" value={draft.background_agents.join(', ')} onChange={(event) => change({ background_agents: event.currentTarget.value.split(/[\s,]+/).filter((id) => id !== '') })} />
        </label>
        <label class="field">
          Agents to which it may hand a conversation over
          <input placeholder="None" value={draft.hands_over_to.join(', ')} onChange={(event) => change({ hands_over_to: event.currentTarget.value.split(/[\s,]+/).filter((id) => id !== '') })} />
        </label>
        {agent === null ? null : <McpServers agent={agent} etag={etag} isAdmin={isAdmin} saved={saved} />}
        {isAdmin ? (
          <footer>
            <button type="submit" class="primary" disabled={isSending}>
              {agent === null ? 'Create' : 'Save as a new version'}
            </button>
          </footer>
        ) : null}
      </fieldset>
    </form>
  )
  return (
    <>
      <div class="editor-beside">
        {form}
        {isAdmin ? <AgentTrial agentId={agentId} draft={draft} saved={isChanged ? null : (agent?.version ?? null)} /> : null}
      </div>
      <Policies agentId={agentId} draft={draft} isChanged={isChanged} tools={tools} pinned={pinnedTools(agent, tools)} />
    </>
  )
}

/** The API of its model, the context window, and when older turns are summarised. */
function ModelFields({ draft, change }: { draft: Draft; change: (part: Partial<Draft>) => void }) {
  const { compact_at: compactAt } = draft
  return (
    <>
      <div class="policy">
        <label class="field">
          Model API
          <select value={draft.model_api ?? ''} onChange={(event) => change({ model_api: (event.currentTarget.value || null) as Draft['model_api'] })}>
            <option value="">The app’s default</option>
            <option value="responses">Responses</option>
            <option value="chat">Chat completions</option>
          </select>
        </label>
        <label class="field">
          Context window, in tokens
          <input
            type="number"
            min={256}
            max={100_000_000}
            placeholder="From the model registry"
            value={draft.model_context_tokens ?? ''}
            onInput={(event) => change({ model_context_tokens: event.currentTarget.valueAsNumber || null })}
          />
        </label>
      </div>
      <div class="check compaction">
        <label class="check">
          <input type="checkbox" checked={compactAt !== null} onChange={(event) => change({ compact_at: event.currentTarget.checked ? COMPACT_AT : null })} />
          Summarise older turns{compactAt === null ? '' : ' at'}
        </label>
        {compactAt === null ? null : (
          <label class="check">
            <input
              class="percent"
              type="number"
              min={1}
              max={100}
              required
              defaultValue={String(Math.round(compactAt * 100))}
              onInput={({ currentTarget: { valueAsNumber: percent } }) => (percent > 0 ? change({ compact_at: percent / 100 }) : undefined)}
            />
            % of the window
          </label>
        )}
      </div>
    </>
  )
}

/** Whether the agent has a tool, and the approval policy of its calls. */
function ToolRow({ tool, draft, change }: { tool: ToolInfo; draft: Draft; change: (part: Partial<Draft>) => void }) {
  const { name } = tool
  const isOffered = draft.tools === null || draft.tools.includes(name)
  const own = draft.policies[name]
  const policy: Policy = own ?? tool.policy
  const put = (part: Partial<Policy>): void => change({ policies: { ...draft.policies, [name]: { ...policy, ...part } } })
  const drop = (): void => change({ policies: Object.fromEntries(Object.entries(draft.policies).filter(([other]) => other !== name)) })
  const offer = (isWanted: boolean): void => {
    const names = (draft.tools ?? []).filter((other) => other !== name)
    change({ tools: isWanted ? [...names, name] : names })
  }
  const floor = draft.approval_floor[name]
  const raise = (mode: string): void => {
    const others = Object.entries(draft.approval_floor).filter(([other]) => other !== name)
    change({ approval_floor: Object.fromEntries(mode === '' ? others : [...others, [name, mode as Floor]]) })
  }
  const asks = policy.required === null ? 'own' : policy.required ? 'yes' : 'no'
  return (
    <li>
      <div class="tool-row">
        <label class="check">
          <input type="checkbox" checked={isOffered} disabled={draft.tools === null} onChange={(event) => offer(event.currentTarget.checked)} />
          <strong>
            <code>{name}</code>
          </strong>
        </label>
        <small>{tool.description.split('. ')[0]}</small>
        {isOffered ? (
          <details open={own !== undefined}>
            <summary>
              {own === undefined ? `The tool’s default: ${tool.approval === 'manual' ? 'each call needs an approval' : 'runs automatically'}` : 'A policy of this agent'}
              {floor === undefined ? null : `; least approval mode: ${floor}`}
            </summary>
            <div class="policy">
              <label class="field">
                Calls need an approval
                <select value={asks} onChange={(event) => put({ required: { own: null, yes: true, no: false }[event.currentTarget.value as 'own'] })}>
                  <option value="own">the tool’s default</option>
                  <option value="yes">always</option>
                  <option value="no">never</option>
                </select>
              </label>
              <label class="field">
                Least approval mode
                <select value={floor ?? ''} onChange={(event) => raise(event.currentTarget.value)}>
                  <option value="">the tool’s default</option>
                  <option value="manual">manual: each call</option>
                  <option value="policy">policy: as set here</option>
                  <option value="auto">auto: a user may switch approvals off</option>
                </select>
              </label>
              <label class="field">
                People who must approve
                <input type="number" min={1} max={10} required value={policy.quorum} onInput={(event) => put({ quorum: event.currentTarget.valueAsNumber || 1 })} />
              </label>
              <label class="field">
                What they see of the turn
                <select value={policy.context ?? ''} onChange={(event) => put({ context: (event.currentTarget.value || null) as NonNullable<Policy['context']> | null })}>
                  <option value="">the default: all of it</option>
                  <option value="full">full: the question, the reasons, earlier calls</option>
                  <option value="question">question: only what was asked</option>
                  <option value="none">none: only the call</option>
                </select>
              </label>
              {CHOICES.map(({ field, words }) => (
                <label key={field} class="check">
                  <input type="checkbox" checked={policy[field] !== false} onChange={(event) => put({ [field]: event.currentTarget.checked })} />
                  {words}
                </label>
              ))}
              <p class="hint">
                Decided by {whom({ policy })}. Roles, users, time limits, reminders and what a grant binds are set through the API and kept here.
              </p>
              {policy.rules === undefined ? null : (
                <p class="hint">With rules, which are kept here, too: {policy.rules.map(({ name }) => name).join(', ')}.</p>
              )}
              {own === undefined ? null : (
                <button type="button" onClick={drop}>
                  Remove this policy
                </button>
              )}
            </div>
          </details>
        ) : null}
      </div>
    </li>
  )
}

const CHOICES = [
  { field: 'forbid_self_approval', words: 'Not by the user who asked for the turn' },
  { field: 'allow_changes', words: 'They may change the arguments' },
  { field: 'allow_for_session', words: 'They may allow it for the rest of a session' },
] as const

async function read(api: Api, agentId: string): Promise<Loaded> {
  const [agents, tools] = await Promise.all([api.all<Agent>('/agents'), api.all<ToolInfo>('/tools')])
  if (!agents.some(({ id }) => id === agentId)) return { agent: null, etag: null, tools }
  const { value, etag } = await api.tagged<Agent>(`/agents/${encodeURIComponent(agentId)}`)
  return { agent: value, etag, tools }
}
