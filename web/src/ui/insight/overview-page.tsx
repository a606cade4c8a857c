import { ApiError, type Api, type PeriodStatistics, type Session, type Page } from '../../client'
import { Empty, Time, When, titleOf } from '../bits'
import { useLoaded, useParley } from '../context'
import { link } from '../router'
import { Bars, compact, seconds } from './charts'
import { readDays } from './days'
import { Figures, Tile } from './figures'
import { samples, total } from './metrics'
import { money } from './usage'

const DAYS = 10

export function OverviewPage() {
  const { api } = useParley()
  const [all, retry] = useLoaded(() => api.get<PeriodStatistics>('/statistics'), [api])
  const [metrics, retryMetrics] = useLoaded(() => readMetrics(api), [api])
  const [sessions, retrySessions] = useLoaded(() => api.get<Page<Session>>('/sessions', { sort: '-updated_at', limit: 8 }), [api])
  return (
    <div class="page">
      <h1>Insight</h1>
      <section aria-label="Your sessions">
        <h2>Your sessions, all time</h2>
        <When state={all} what="statistics" retry={retry}>
          {(figures) => <Figures figures={figures} />}
        </When>
      </section>
      {all.phase === 'ready' ? <DayByDay all={all.value} /> : null}
      <section aria-label="The deployment">
        <h2>The deployment, now</h2>
        <When state={metrics} what="metrics" retry={retryMetrics}>
          {(text) => {
            if (text === null) return <p class="hint">Metrics of the whole deployment are for admins.</p>
            const all = samples(text)
            const shown = (name: string): string => {
              const value = total(all, name)
              return value === null ? '–' : compact(value)
            }
            const mean = (name: string): string => {
              const count = total(all, `${name}_count`)
              return count === null || count === 0 ? '–' : seconds((total(all, `${name}_sum`) ?? 0) / count)
            }
            return (
              <dl class="tiles">
                <Tile name="Active sessions" value={shown('active_sessions')} />
                <Tile name="Waiting approvals" value={shown('pending_approvals')} />
                <Tile name="Messages stored" value={shown('message_count_total')} />
                <Tile name="Tool calls" value={shown('tool_call_count_total')} />
                <Tile name="The model answers in" value={mean('llm_response_time_seconds')} note="on average" />
                <Tile name="A tool runs" value={mean('tool_execution_time_seconds')} note="on average" />
              </dl>
            )
          }}
        </When>
      </section>
      <p>
        <a href={link('agents')}>The agents and the approval policies of their tools</a>
      </p>
      <p>
        <a href={link('webhooks')}>Your webhooks and their last deliveries</a>
      </p>
      <section aria-label="Sessions">
        <h2>Look into a session</h2>
        <When state={sessions} what="sessions" retry={retrySessions}>
          {(page) =>
            page.items.length === 0 ? (
              <Empty title="No session yet" />
            ) : (
              <ul class="plain-list">
                {page.items.map((session) => (
                  <li key={session.id}>
                    <a href={link('insight', session.id)}>{titleOf(session)}</a> <Time at={session.updated_at} />
                  </li>
                ))}
              </ul>
            )
          }
        </When>
      </section>
    </div>
  )
}

function DayByDay({ all }: { all: PeriodStatistics }) {
  const { api } = useParley()
  const [days, retry] = useLoaded(() => readDays(api, all, DAYS), [api, all])
  return (
    <section aria-label="Day by day">
      <h2>The last {DAYS} days</h2>
      <When state={days} what="the days" retry={retry}>
        {(read) => {
          const labels = read.map(({ start }) => start.toLocaleDateString([], { day: 'numeric', month: 'short' }))
          const series = (of: (figures: PeriodStatistics) => number | null): (number | null)[] =>
            read.map(({ figures }) => (figures === null ? null : of(figures)))
          const costs = series(({ usage }) => usage.cost_usd ?? null)
          return (
            <div class="pairs two">
              <Bars
                title="Tokens"
                labels={labels}
                series={[
                  { name: 'in', tone: 'one', values: series(({ usage }) => usage.input_tokens) },
                  { name: 'out', tone: 'two', values: series(({ usage }) => usage.output_tokens) },
                ]}
              />
              <Bars
                title="Turns"
                labels={labels}
                series={[
                  { name: 'completed', tone: 'one', values: series(({ turns }) => turns.completed) },
                  { name: 'other', tone: 'three', values: series(({ turns }) => turns.total - turns.completed) },
                ]}
              />
              {costs.some((cost) => cost !== null && cost > 0) ? <Bars title="Cost" labels={labels} format={money} series={[{ name: 'cost', tone: 'three', values: costs }]} /> : null}
              <Bars title="Approval waiting time, median" labels={labels} format={seconds} series={[{ name: 'median', tone: 'one', values: series(({ approval_waits }) => approval_waits.p50_seconds) }]} />
              <Bars title="Turn duration, median" labels={labels} format={seconds} series={[{ name: 'median', tone: 'two', values: series(({ turn_durations }) => turn_durations.p50_seconds) }]} />
            </div>
          )
        }}
      </When>
    </section>
  )
}

/** The metrics as text; null for callers without access. */
async function readMetrics(api: Api): Promise<string | null> {
  try {
    return await (await api.blob('/metrics')).text()
  } catch (error) {
    if (error instanceof ApiError && (error.status === 404 || error.status === 403)) return null
    throw error
  }
}
