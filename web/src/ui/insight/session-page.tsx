import { ApiError, type Api, type Session, type SessionStatistics, type Turn, type Page } from '../../client'
import { Badge, Empty, Icon, JsonText, Time, When, titleOf } from '../bits'
import { useLoaded, useParley } from '../context'
import { link } from '../router'
import { Bars, seconds } from './charts'
import { Figures } from './figures'
import { money } from './usage'

interface AuditLine {
  number: number
  at: string | null
  who: string
  action: string
  details: unknown
}

interface Audit {
  items: AuditLine[]
  next_cursor: string | null
  verified: boolean
  problems: { line: number | null; message: string }[]
}

export function SessionInsightPage({ sessionId }: { sessionId: string }) {
  const { api } = useParley()
  const path = `/sessions/${encodeURIComponent(sessionId)}`
  const [state, retry] = useLoaded(
    () => Promise.all([api.get<Session>(path), api.get<SessionStatistics>(`${path}/statistics`), api.get<Page<Turn>>(`${path}/turns`, { limit: 20 })]),
    [api, path],
  )
  const [audit, retryAudit] = useLoaded(() => readAudit(api, path), [api, path])
  return (
    <div class="page">
      <When state={state} what="the session's figures" retry={retry}>
        {([session, figures, turns]) => (
          <>
            <p>
              <a class="quiet" href={link('sessions', sessionId)}>
                <Icon name="back" /> The conversation
              </a>
            </p>
            <h1>{titleOf(session)}</h1>
            <Figures figures={figures} />
            <Turns turns={turns.items} sessionId={sessionId} />
          </>
        )}
      </When>
      <section aria-label="Audit trail">
        <h2>Audit trail</h2>
        <When state={audit} what="the audit trail" retry={retryAudit}>
          {(trail) => (trail === null ? <p class="hint">You may not see this session's audit trail.</p> : <Trail trail={trail} />)}
        </When>
      </section>
    </div>
  )
}

function Turns({ turns, sessionId }: { turns: Turn[]; sessionId: string }) {
  const ordered = [...turns].reverse()
  if (ordered.length === 0) return <Empty title="No turns yet" />
  return (
    <section aria-label="Turns">
      <h2>Turns</h2>
      <Bars
        title="Tokens by turn"
        labels={ordered.map((_, place) => `#${place + 1}`)}
        series={[
          { name: 'in', tone: 'one', values: ordered.map(({ usage }) => usage.input_tokens) },
          { name: 'out', tone: 'two', values: ordered.map(({ usage }) => usage.output_tokens) },
        ]}
      />
      <ul class="plain-list">
        {turns.map((turn) => (
          <li key={turn.id}>
            <a href={link('sessions', sessionId, 'turns', turn.id)}>
              <Time at={turn.created_at} />
            </a>{' '}
            <Badge status={turn.status} /> {turn.steps} {turn.steps === 1 ? 'step' : 'steps'}
            {turn.started_at !== null && turn.ended_at !== null ? `, ${seconds((Date.parse(turn.ended_at) - Date.parse(turn.started_at)) / 1000)}` : ''}
            {turn.usage.cost_usd == null ? '' : `, ${money(turn.usage.cost_usd)}`}
          </li>
        ))}
      </ul>
    </section>
  )
}

function Trail({ trail }: { trail: Audit }) {
  return (
    <>
      {trail.verified ? (
        <p class="verified">
          <Icon name="check" /> No line is missing, altered, moved or added.
        </p>
      ) : (
        <div class="problem" role="alert">
          The trail is not intact:
          <ul>
            {trail.problems.map(({ line, message }, index) => (
              <li key={index}>
                {line === null ? '' : `Line ${line}: `}
                {message}
              </li>
            ))}
          </ul>
        </div>
      )}
      {trail.items.length === 0 ? <Empty title="Nothing recorded yet" /> : null}
      <ol class="trail">
        {trail.items.map((line) => (
          <li key={line.number}>
            <details>
              <summary>
                <strong>{line.action}</strong> by {line.who} {line.at === null ? null : <Time at={line.at} />}
              </summary>
              <JsonText value={line.details} label={`Details of line ${line.number}`} />
            </details>
          </li>
        ))}
      </ol>
      {trail.next_cursor === null ? null : <p class="hint">The first {trail.items.length} lines; the API has the rest.</p>}
    </>
  )
}

async function readAudit(api: Api, path: string): Promise<Audit | null> {
  try {
    return await api.get<Audit>(`${path}/audit`, { limit: 200 })
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null
    throw error
  }
}
