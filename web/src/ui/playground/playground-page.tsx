import { useState } from 'preact/hooks'
import type { Agent } from '../../client'
import { Empty, Icon, When } from '../bits'
import { BackToBuild } from '../build/build-page'
import { NeedsAdmin, useIsAdmin } from '../build/needs-role'
import { DEFAULT_AGENT, useAgents } from '../chat/session/agent'
import { useAction, useParley } from '../context'
import { link, put, usePath } from '../router'
import { TrialView } from './trial-view'
import { beginTrial, say, throwAway, versionsOf } from './trials'
import './playground.css'

const SIDES = ['A', 'B'] as const
type Side = (typeof SIDES)[number]
interface Choice {
  agentId: string
  version: number
}

/** The same message to two versions. Which ones is in the address: `#/playground/AGENT@3/AGENT@4`. */
export function PlaygroundPage() {
  const isAdmin = useIsAdmin()
  const [agents, retry] = useAgents()
  return (
    <div class="page wide-page">
      <BackToBuild />
      <h1>Playground</h1>
      <NeedsAdmin to="Trying versions of agents" />
      {isAdmin ? (
        <When state={agents} what="agents" retry={retry}>
          {(all) => (all.length === 0 ? <Empty title="No agents" /> : <Sides agents={all} />)}
        </When>
      ) : null}
    </div>
  )
}

function Sides({ agents }: { agents: readonly Agent[] }) {
  const { api } = useParley()
  const act = useAction()
  const [, first, second] = usePath()
  const chosen: Record<Side, Choice> = { A: choiceOf(first, agents, 1), B: choiceOf(second, agents, 0) }
  const [sessions, setSessions] = useState<Record<Side, string | null>>({ A: null, B: null })
  const [text, setText] = useState('')
  const [isSending, setSending] = useState(false)
  const hasBegun = sessions.A !== null || sessions.B !== null

  const choose = (side: Side, choice: Choice): void => {
    const both = { ...chosen, [side]: choice }
    put('playground', nameOf(both.A), nameOf(both.B))
  }
  const send = async (): Promise<void> => {
    setSending(true)
    const began = { ...sessions }
    await act(async () => {
      await Promise.all(
        SIDES.map(async (side) => {
          const { agentId, version } = chosen[side]
          const id = began[side] ?? (await beginTrial(api, agentId, { version }, `Playground: ${agentId}, version ${version}`)).id
          began[side] = id
          setSessions((before) => ({ ...before, [side]: id }))
          await say(api, id, text.trim())
        }),
      )
      setText('')
    })
    setSending(false)
  }
  const again = async (): Promise<void> => {
    const old = SIDES.map((side) => sessions[side]).filter((id) => id !== null)
    setSessions({ A: null, B: null })
    await act(() => Promise.all(old.map((id) => throwAway(api, id))))
  }

  const unknown = [first, second].filter((said) => said !== undefined && !SIDES.some((side) => nameOf(chosen[side]) === said))
  return (
    <>
      {unknown.length === 0 ? null : (
        <p class="problem" role="alert">
          There is no {unknown.join(' and no ')}. Other versions are chosen below instead.
        </p>
      )}
      <div class="sides">
        {SIDES.map((side) => (
          <Pane key={side} side={side} agents={agents} choice={chosen[side]} choose={(choice) => choose(side, choice)} sessionId={sessions[side]} />
        ))}
      </div>
      <form
        class="try"
        aria-label="Both sides"
        onSubmit={(event) => {
          event.preventDefault()
          if (text.trim() !== '') void send()
        }}
      >
        <label class="field">
          Message to both
          <textarea
            rows={3}
            maxLength={32_000}
            required
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
              event.preventDefault()
              event.currentTarget.form?.requestSubmit()
            }}
          />
        </label>
        <div class="buttons">
          <button type="submit" class="primary" disabled={isSending}>
            Send to both
          </button>
          {hasBegun ? (
            <button type="button" onClick={() => void again()}>
              Throw both away
            </button>
          ) : null}
        </div>
        <p class="hint">Both are real sessions, with real tools: what acts outward does, twice. They expire after a day.</p>
      </form>
    </>
  )
}

interface PaneProps {
  side: Side
  agents: readonly Agent[]
  choice: Choice
  choose: (choice: Choice) => void
  sessionId: string | null
}

function Pane({ side, agents, choice, choose, sessionId }: PaneProps) {
  const agent = agents.find(({ id }) => id === choice.agentId)
  const isFixed = sessionId !== null
  return (
    <section class="side" aria-label={`Side ${side}`}>
      <header>
        <label class="field">
          Agent {side}
          <select
            value={choice.agentId}
            disabled={isFixed}
            onChange={(event) => {
              const found = agents.find(({ id }) => id === event.currentTarget.value)
              if (found !== undefined) choose({ agentId: found.id, version: found.version })
            }}
          >
            {agents.map(({ id, name }) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label class="field">
          Version {side}
          <select value={String(choice.version)} disabled={isFixed} onChange={(event) => choose({ ...choice, version: Number(event.currentTarget.value) })}>
            {(agent === undefined ? [] : versionsOf(agent)).map((version) => (
              <option key={version} value={String(version)}>
                {version}
              </option>
            ))}
          </select>
        </label>
        {sessionId === null ? null : (
          <a class="quiet" href={link('sessions', sessionId)}>
            <Icon name="chat" /> Its session
          </a>
        )}
      </header>
      {sessionId === null ? <Empty title="Nothing was sent yet" /> : <TrialView sessionId={sessionId} label={`Answers of ${side}`} />}
    </section>
  )
}

function nameOf({ agentId, version }: Choice): string {
  return `${agentId}@${version}`
}

/** What the address says, as far as there is such a version; else so many before the newest of the first agent. */
function choiceOf(said: string | undefined, agents: readonly Agent[], back: number): Choice {
  const [, agentId, version] = /^(.+)@(\d+)$/.exec(said ?? '') ?? []
  const named = agents.find(({ id }) => id === agentId)
  const agent = named ?? agents.find(({ id }) => id === DEFAULT_AGENT) ?? agents[0]
  const newest = agent?.version ?? 1
  const wanted = named === undefined ? newest - back : Number(version)
  return { agentId: agent?.id ?? DEFAULT_AGENT, version: Math.min(newest, Math.max(1, wanted)) }
}
