import type { Api, Approval, Envelope, Message, Turn } from '../../client'
import { Badge, Empty, Icon, Time, When, span } from '../bits'
import { useLoaded, useParley } from '../context'
import { endingWords } from '../endings'
import { link } from '../router'
import { Tile, UsageTiles } from './figures'
import { useWidth } from './charts'
import { scaleOf, timelineOf, type Timeline } from './timeline'
import { money } from './usage'

const NAME = 170
const ROW = 30

export function TurnPage({ sessionId, turnId }: { sessionId: string; turnId: string }) {
  const { api } = useParley()
  const [state, retry] = useLoaded(() => read(api, sessionId, turnId), [api, sessionId, turnId])
  return (
    <div class="page">
      <p>
        <a class="quiet" href={link('sessions', sessionId)}>
          <Icon name="back" /> The conversation
        </a>
      </p>
      <When state={state} what="the turn" retry={retry}>
        {({ turn, timeline }) => (
          <>
            <h1>
              One turn <Badge status={turn.status} />
            </h1>
            <dl class="tiles">
              <Tile name="Began" value={new Date(turn.created_at).toLocaleTimeString()} />
              <Tile name="Took" value={short(timeline.to - timeline.from)} />
              <Tile name="Steps" value={String(turn.steps)} />
              <UsageTiles usage={turn.usage} />
            </dl>
            <Details turn={turn} />
            {turn.error === null ? null : (
              <p class="problem">
                {turn.error.detail} <code>{turn.error.code}</code>
              </p>
            )}
            <Picture timeline={timeline} />
          </>
        )}
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

function Picture({ timeline }: { timeline: Timeline }) {
  const { segments, from, to } = timeline
  const [figure, width] = useWidth()
  if (segments.length === 0) return <Empty title="Nothing has happened yet" />
  const height = segments.length * ROW + 26
  const scale = scaleOf(timeline)
  const start = Math.min(NAME, width * 0.36)
  const letters = Math.floor(start / 7)
  const place = (at: number): number => start + scale.place(at) * (width - start - 8)
  return (
    <figure class="chart timeline" ref={figure}>
      <figcaption>
        Timeline
        <span class="legend" aria-hidden="true">
          <span class="one">model</span>
          <span class="two">tool</span>
          <span class="wait">waiting for a person</span>
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`Timeline of ${segments.length} parts; the list below says the same in words`}>
        {segments.map((segment, index) => {
          const x = place(segment.from)
          const length = Math.max(3, place(segment.to) - x)
          const tone = segment.kind === 'model' ? 'one' : segment.kind === 'tool' ? 'two' : 'wait'
          const long = span(segment.to - segment.from)
          const isRight = x + length > width - 70
          return (
            <g key={index}>
              <text class="label" x={0} y={index * ROW + 19}>
                {segment.name.length > letters ? `${segment.name.slice(0, letters - 1)}…` : segment.name}
              </text>
              <rect class={tone} x={x} y={index * ROW + 6} width={length} height={ROW - 12} rx="4">
                <title>{`${segment.name}: ${long} ${segment.note}`}</title>
              </rect>
              {isRight && length < 90 ? (
                <text class="value" x={x - 5} y={index * ROW + 19} text-anchor="end">
                  {short(segment.to - segment.from)}
                </text>
              ) : (
                <text class={isRight ? 'value inside' : 'value'} x={isRight ? x + length - 6 : x + length + 5} y={index * ROW + 19} text-anchor={isRight ? 'end' : 'start'}>
                  {short(segment.to - segment.from)}
                </text>
              )}
            </g>
          )
        })}
        <line class="axis" x1={start} x2={width - 8} y1={height - 20} y2={height - 20} />
        {scale.breaks.map((part) => {
          const [left, right] = [place(part.from), place(part.to)]
          const middle = (left + right) / 2
          return (
            <g key={part.from} class="break">
              <rect x={left} y={0} width={right - left} height={height - 20} />
              <path d={`M${middle - 6} ${height - 16}l4 -9M${middle + 2} ${height - 16}l4 -9`} />
              {right - left < 60 || middle > width - 130 ? null : (
                <text class="label" x={middle} y={height - 5} text-anchor="middle">
                  {short(part.to - part.from)}
                </text>
              )}
            </g>
          )
        })}
        <text class="label" x={start} y={height - 5}>
          0
        </text>
        <text class="label" x={width - 8} y={height - 5} text-anchor="end">
          {short(to - from)}
        </text>
      </svg>
      <ol class="plain-list">
        {segments.map((segment, index) => (
          <li key={index}>
            {segment.kind === 'wait' ? 'Waited for a person: ' : ''}
            {segment.name}, {short(segment.to - segment.from)}
            {segment.note === '' ? '' : `, ${segment.note}`} <Time at={new Date(segment.from).toISOString()} />
          </li>
        ))}
      </ol>
      {scale.breaks.length > 0 ? <p class="hint">The shaded parts are shortened: they took far longer than the rest.</p> : null}
      {timeline.isCoarse ? <p class="hint">The turn’s events are no longer kept, so the times are those of the stored messages.</p> : null}
    </figure>
  )
}

function short(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : span(ms)
}

async function read(api: Api, sessionId: string, turnId: string): Promise<{ turn: Turn; timeline: Timeline }> {
  const path = `/sessions/${encodeURIComponent(sessionId)}`
  const turn = await api.get<Turn>(`${path}/turns/${encodeURIComponent(turnId)}`)
  const [messages, approvals, events] = await Promise.all([
    api.all<Message>(`${path}/messages`, { from: turn.created_at, ...(turn.ended_at === null ? {} : { to: later(turn.ended_at) }) }),
    api.all<Approval>(`${path}/approvals`, { turn_id: turnId }),
    eventsOf(api, sessionId, turn),
  ])
  return { turn, timeline: timelineOf(turn, messages, approvals, events, Date.now()) }
}

function later(at: string): string {
  return new Date(Date.parse(at) + 1000).toISOString()
}

/** The turn's events, as far as they are kept. They are searched from the newest backwards, in growing steps. */
async function eventsOf(api: Api, sessionId: string, turn: Turn): Promise<Envelope[]> {
  const newest = (await api.events(sessionId, 0, 1)).last_seq
  for (const back of [500, 2_500, 10_000]) {
    const events: Envelope[] = []
    let after = Math.max(0, newest - back)
    for (;;) {
      const page = await api.events(sessionId, after)
      events.push(...page.items)
      const isPast = events.some((event) => event.turn_id === turn.id && event.type === 'stream.ended')
      if (page.next_cursor === null || isPast) break
      after = Number(page.next_cursor)
    }
    const hasStart = events.some((event) => event.turn_id === turn.id && event.type === 'stream.started')
    if (hasStart || newest - back <= 0) return events
  }
  return []
}
