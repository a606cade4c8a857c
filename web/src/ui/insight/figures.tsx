import type { PeriodStatistics, SessionStatistics } from '../../client'
import { compact, seconds, Shares } from './charts'

/** What is counted, of a session or of a period. */
export function Figures({ figures }: { figures: SessionStatistics | PeriodStatistics }) {
  const { turns, usage, messages, approvals, tool_calls, approval_waits, turn_durations } = figures
  return (
    <>
      <dl class="tiles">
        <Tile name="Messages" value={compact(messages.total)} />
        <Tile name="Turns" value={compact(turns.total)} note={`${compact(turns.completed)} completed`} />
        <Tile name="Tokens" value={compact(usage.input_tokens + usage.output_tokens)} note={`${compact(usage.input_tokens)} in, ${compact(usage.output_tokens)} out`} />
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
      </div>
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
