import type { ModelUsage, PeriodStatistics, SessionStatistics } from '../../client'
import { compact, seconds, Shares } from './charts'
import { money, tokensOf, tokenWords, type Used } from './usage'

type Counted = SessionStatistics | PeriodStatistics
/** Fields that a service of an earlier version does not count. */
type Later = 'models' | 'finish_reasons'

/** The statistics of a session or of a period. */
export function Figures({ figures }: { figures: Omit<Counted, Later> & Partial<Pick<Counted, Later>> }) {
  const { turns, usage, messages, approvals, tool_calls, approval_waits, turn_durations, models = [], finish_reasons: ends } = figures
  return (
    <>
      <dl class="tiles">
        <Tile name="Messages" value={compact(messages.total)} />
        <Tile name="Turns" value={compact(turns.total)} note={`${compact(turns.completed)} completed`} />
        <UsageTiles usage={usage} />
        <Tile name="A turn takes" value={seconds(turn_durations.p50_seconds)} {...within(turn_durations.p95_seconds)} />
        <Tile name="An approval waits" value={seconds(approval_waits.p50_seconds)} {...within(approval_waits.p95_seconds)} />
      </dl>
      <div class="pairs">
        <Shares
          title="Turns"
          parts={[
            { name: 'completed', value: turns.completed, tone: 'good' },
            { name: 'open', value: turns.queued + turns.running, tone: 'busy' },
            { name: 'waiting', value: turns.waiting_approval, tone: 'wait' },
            { name: 'failed', value: turns.failed, tone: 'bad' },
            { name: 'cancelled', value: turns.cancelled, tone: 'rest-2' },
          ]}
        />
        <Shares
          title="Tool calls"
          parts={[
            { name: 'completed', value: tool_calls.completed, tone: 'good' },
            { name: 'open', value: tool_calls.pending + tool_calls.approved, tone: 'wait' },
            { name: 'rejected', value: tool_calls.rejected, tone: 'rest-2' },
            { name: 'failed', value: tool_calls.failed, tone: 'bad' },
          ]}
        />
        <Shares
          title="Approvals"
          parts={[
            { name: 'approved', value: approvals.approved, tone: 'good' },
            { name: 'pending', value: approvals.pending, tone: 'wait' },
            { name: 'rejected', value: approvals.rejected, tone: 'bad' },
            { name: 'timed out', value: approvals.timed_out + approvals.cancelled, tone: 'rest-2' },
          ]}
        />
        {ends === undefined || ends.total === 0 ? null : (
          <Shares
            title="Answers"
            parts={[
              { name: 'complete', value: ends.stop + ends.tool_calls, tone: 'good' },
              { name: 'cut', value: ends.length, tone: 'wait' },
              { name: 'filtered', value: ends.content_filter, tone: 'bad' },
              { name: 'declined', value: ends.refusal, tone: 'busy' },
              { name: 'cancelled', value: ends.cancelled, tone: 'rest-2' },
            ]}
          />
        )}
      </div>
      {models.length === 0 ? null : <Models models={models} />}
    </>
  )
}

function Models({ models }: { models: readonly ModelUsage[] }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="By model">
      <table class="figures">
        <thead>
          <tr>
            <th>Model</th>
            {['Turns', 'In', 'Cached', 'Out', 'Reasoning', 'Cost'].map((name) => (
              <th key={name} class="align-right">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {models.map(({ model, turns, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_usd }) => (
            <tr key={model}>
              <td>{model ?? 'All others'}</td>
              {[turns, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens].map((count, place) => (
                <td key={place} class="align-right">
                  {compact(count)}
                </td>
              ))}
              <td class="align-right">{cost_usd === null ? '–' : money(cost_usd)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** Tokens, and their cost if the price is known. */
export function UsageTiles({ usage }: { usage: Used }) {
  return (
    <>
      <Tile name="Tokens" value={compact(tokensOf(usage))} note={tokenWords(usage).join(',\n')} />
      {usage.cost_usd == null ? null : <Tile name="Cost" value={money(usage.cost_usd)} />}
    </>
  )
}

function within(most: number | null): { note?: string } {
  return most === null ? {} : { note: `95 % within ${seconds(most)}` }
}

export function Tile({ name, value, note }: { name: string; value: string; note?: string }) {
  return (
    <div class="tile">
      <dt>{name}</dt>
      <dd>
        <strong>{value}</strong>
        {note === undefined ? null : <small>{note}</small>}
      </dd>
    </div>
  )
}
