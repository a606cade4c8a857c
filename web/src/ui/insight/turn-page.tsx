import { useEffect } from 'preact/hooks'
import type { Turn } from '../../client'
import { Badge, Icon, When } from '../bits'
import { useLoaded, useParley } from '../context'
import { endingWords } from '../endings'
import { link } from '../router'
import { Tile, UsageTiles } from './figures'
import { readTurn } from './trace/reading'
import { traceOf } from './trace/rows'
import { short } from './trace/words'
import { TraceView } from './trace/trace-view'
import { money } from './usage'

const AGAIN_MS = 3_000

/** rowId: of the row that the address names. */
export function TurnPage({ sessionId, turnId, rowId }: { sessionId: string; turnId: string; rowId: string | null }) {
  const { api } = useParley()
  const [state, retry] = useLoaded(() => readTurn(api, sessionId, turnId), [api, sessionId, turnId])
  const isOpen = state.phase === 'ready' && state.value.turn.ended_at === null
  useEffect(() => {
    if (!isOpen) return undefined
    const timer = setTimeout(retry, AGAIN_MS)
    return () => clearTimeout(timer)
  }, [isOpen, state])
  return (
    <div class="page wide-page">
      <p>
        <a class="quiet" href={link('sessions', sessionId)}>
          <Icon name="back" /> The conversation
        </a>
      </p>
      <When state={state} what="the turn" retry={retry}>
        {(facts) => {
          const { turn } = facts
          const trace = traceOf(facts, Date.now())
          return (
            <>
              <h1>
                One turn <Badge status={turn.status} />
              </h1>
              <dl class="tiles">
                <Tile name="Began" value={new Date(turn.created_at).toLocaleTimeString()} />
                <Tile name="Took" value={short(trace.root.to - trace.root.from)} />
                <Tile name="Steps" value={String(turn.steps)} />
                <UsageTiles usage={turn.usage} />
              </dl>
              <Details turn={turn} />
              {turn.error === null ? null : (
                <p class="problem">
                  {turn.error.detail} <code>{turn.error.code}</code>
                </p>
              )}
              <TraceView trace={trace} address={['sessions', sessionId, 'turns', turnId]} rowId={rowId} />
            </>
          )
        }}
      </When>
    </div>
  )
}

function Details({ turn: { usage, finish_reason } }: { turn: Turn }) {
  const tokens = (count = 0): string => `${count.toLocaleString('en-US')} tokens`
  const ending = endingWords(finish_reason)
  const lines: [string, string][] = [
    ['Read', tokens(usage.input_tokens)],
    ['Cached input tokens', tokens(usage.cached_input_tokens)],
    ['Written', tokens(usage.output_tokens)],
    ['Reasoning tokens', tokens(usage.reasoning_tokens)],
    ['Cost', usage.cost_usd == null ? 'price not known' : money(usage.cost_usd)],
    ...(ending === null ? [] : [['Its last answer', ending] as [string, string]]),
  ]
  return (
    <details class="fine-print">
      <summary>Details</summary>
      <dl class="arguments">
        {lines.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </details>
  )
}
