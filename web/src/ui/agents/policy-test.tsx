// The approval policy of an agent's tools in words, and its test beside it: what the service says would happen to a call.

import { useState } from 'preact/hooks'
import { jsonText, type Agent, type NewPolicyTest, type PolicyTest } from '../../client'
import { span } from '../bits'
import { people } from '../approvals/deciding'
import { parsedArguments } from '../approvals/arguments'
import { revealed } from '../approvals/revealed'
import { useParley, words } from '../context'
import { conditionWords, effectWords, policyLines, sampleArguments, toolNames, type PolicyTool } from './policy-words'

/** The parts of an agent that are shown here; what is sent is the whole. */
type Written = Pick<Agent, 'tools' | 'policies' | 'approval_floor'>
type Tested = { agent: Written } | { agent_id: string }
type Mode = NonNullable<NewPolicyTest['approval_mode']>

interface Props {
  agentId: string
  /** As the form holds it. */
  draft: Written
  /** Whether the draft is other than the saved version. The service is then sent the draft. */
  isChanged: boolean
  tools: PolicyTool[]
  /** The tools of MCP servers of the saved version. */
  pinned: PolicyTool[]
}

export function Policies({ agentId, draft, isChanged, tools, pinned }: Props) {
  const names = toolNames(draft, tools, pinned)
  const [chosen, choose] = useState<string | null>(null)
  const name = chosen !== null && names.includes(chosen) ? chosen : (names.find((other) => other in draft.policies) ?? names[0])
  if (name === undefined) return null
  const pin = pinned.find((other) => other.name === name)
  const tool = pin ?? tools.find((other) => other.name === name)
  return (
    <section aria-label="Approval policies">
      <h2>Approval policies</h2>
      <label class="field">
        Policy of the tool
        <select value={name} onChange={(event) => choose(event.currentTarget.value)}>
          {names.map((other) => (
            <option key={other} value={other}>
              {other}
            </option>
          ))}
        </select>
      </label>
      <div class="policy-beside">
        <InWords name={name} draft={draft} tool={tool} />
        {isChanged && pin !== undefined ? (
          <p class="hint">Save your changes to test this tool: a definition of an MCP server is pinned when a version is saved.</p>
        ) : (
          <Test key={name} name={name} tool={tool} agent={isChanged ? { agent: draft } : { agent_id: agentId }} />
        )}
      </div>
    </section>
  )
}

function InWords({ name, draft, tool }: { name: string; draft: Written; tool: PolicyTool | undefined }) {
  const own = draft.policies[name]
  const policy = own ?? tool?.policy
  if (policy === undefined) return <p class="hint">This agent sets no policy for {name}, and this service does not have the tool.</p>
  const rules = policy.rules ?? []
  return (
    <section aria-label={`Policy of ${name}`}>
      <h3>{own === undefined ? 'The tool’s default' : 'A policy of this agent'}</h3>
      <dl class="arguments in-words">
        {policyLines(policy, tool, draft.approval_floor[name]).map((line) => (
          <div key={line.name}>
            <dt>{line.name}</dt>
            <dd>{line.words}</dd>
          </div>
        ))}
      </dl>
      <h3>{rules.length === 0 ? 'No rules' : 'Rules: all that hold have to be met'}</h3>
      <ul class="rules">
        {rules.map((rule) => (
          <li key={rule.name}>
            <strong>{rule.name}</strong>
            <p>
              If <code>{revealed(conditionWords(rule.when))}</code>, a call {effectWords(rule, policy)}.
            </p>
          </li>
        ))}
      </ul>
    </section>
  )
}

const MODES: Record<Mode, string> = { policy: 'policy', manual: 'manual: every call waits', auto: 'auto: without approvals' }

type Answer = { test: PolicyTest } | { problem: string }

function Test({ name, tool, agent }: { name: string; tool: PolicyTool | undefined; agent: Tested }) {
  const { api } = useParley()
  const [text, setText] = useState(() => jsonText(sampleArguments(tool?.parameters ?? {}), 2))
  const [mode, setMode] = useState<Mode | null>(null)
  const [hasUntrusted, setUntrusted] = useState(false)
  const [hasPrivate, setPrivate] = useState(false)
  const [answered, setAnswered] = useState<{ to: string; answer: Answer } | null>(null)
  const given = parsedArguments(text)
  const body = { ...agent, tool: name, arguments: given.ok ? given.value : {}, approval_mode: mode, has_untrusted: hasUntrusted, has_private: hasPrivate }
  // An answer to anything else than what the form says now is not shown, also one that comes late.
  const asked = jsonText([body, text])
  const answer = answered?.to === asked ? answered.answer : null

  const ask = async (): Promise<void> => {
    if (!given.ok) return setAnswered({ to: asked, answer: { problem: given.problem } })
    let answer: Answer
    try {
      answer = { test: await api.post<PolicyTest>('/policies/test', body) }
    } catch (error) {
      answer = { problem: words(error) }
    }
    setAnswered({ to: asked, answer })
  }

  return (
    <form
      class="policy-test"
      aria-label={`Test of ${name}`}
      onSubmit={(event) => {
        event.preventDefault()
        void ask()
      }}
    >
      <h3>What would happen to a call</h3>
      <label class="field">
        Arguments as JSON
        <textarea class="code" rows={4} spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <label class="field">
        Approval mode
        <select value={mode ?? ''} onChange={(event) => setMode((event.currentTarget.value || null) as Mode | null)}>
          <option value="">the agent’s default</option>
          {Object.entries(MODES).map(([value, said]) => (
            <option key={value} value={value}>
              {said}
            </option>
          ))}
        </select>
      </label>
      <label class="check">
        <input type="checkbox" checked={hasUntrusted} onChange={(event) => setUntrusted(event.currentTarget.checked)} />
        The model has read untrusted input
      </label>
      <label class="check">
        <input type="checkbox" checked={hasPrivate} onChange={(event) => setPrivate(event.currentTarget.checked)} />
        The model has read private data
      </label>
      <div>
        <button type="submit">Test</button>
      </div>
      <p class="hint">{'agent' in agent ? 'Tests your changes, which are not saved.' : 'Tests the saved version.'} Nothing runs and nothing is stored.</p>
      {answer === null ? null : 'problem' in answer ? (
        <p class="problem" role="alert">
          {answer.problem}
        </p>
      ) : (
        <Outcome test={answer.test} />
      )}
    </form>
  )
}

const DECISIONS: Record<PolicyTest['decision'], { tone: string; label: string; said: string }> = {
  runs: { tone: 'good', label: 'runs', said: 'It runs at once, without a person.' },
  waits: { tone: 'wait', label: 'waits', said: 'It waits for an approval.' },
  refused: { tone: 'bad', label: 'refused', said: 'It is refused, and nobody is asked.' },
}

function Outcome({ test }: { test: PolicyTest }) {
  const { tone, label, said } = DECISIONS[test.decision]
  return (
    <div class="policy-outcome" role="status" aria-label="What would happen">
      <p>
        <span class={`badge ${tone}`}>{label}</span> {said}
      </p>
      {test.error === null ? null : <p class="hint">{revealed(test.error)}</p>}
      {test.decision === 'waits' ? <Waiting test={test} /> : null}
      {test.rules.length === 0 ? null : (
        <>
          <h4>Its rules</h4>
          <ul class="rules">
            {test.rules.map((rule) => (
              <li key={rule.name}>
                <strong>{rule.name}</strong> <span class={`badge ${rule.matched ? 'wait' : 'calm'}`}>{rule.matched ? 'holds' : 'does not hold'}</span>
                <p>{revealed(rule.why)}</p>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  )
}

function Waiting({ test }: { test: PolicyTest }) {
  return (
    <>
      <h4>Why</h4>
      <ul class="rules">
        {test.required_by.map(({ source, reason }) => (
          <li key={`${source} ${reason}`}>{revealed(reason)}</li>
        ))}
      </ul>
      <h4>Who decides{test.requirements.length > 1 ? ': all of these' : ''}</h4>
      <ul class="rules">
        {test.requirements.map((requirement) => (
          <li key={requirement.rule}>
            {people(requirement)} <small>by {requirement.rule === null ? 'the policy' : `the rule “${requirement.rule}”`}</small>
          </li>
        ))}
      </ul>
      <p class="hint">
        Quorum: {test.quorum}. {test.policy?.forbid_self_approval === true ? 'Not by the user who asked for the turn. ' : ''}
        {test.timeout_seconds === null ? '' : `After ${span(test.timeout_seconds * 1000)} it is ${test.on_timeout === 'approve' ? 'approved' : 'rejected'}.`}
      </p>
    </>
  )
}
