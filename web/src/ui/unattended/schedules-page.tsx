import { useState } from 'preact/hooks'
import type { NewSchedule, Schedule, ScheduleDetail, ScheduleRun } from '../../client'
import { Badge, Deadline, Dialog, Empty, Time, When } from '../bits'
import { BackToBuild } from '../build/build-page'
import { useAction, useLoaded, useParley } from '../context'
import { link } from '../router'
import { BLANK_TARGET, ID_PATTERN, targetOf, TargetFields, whereWords } from './target-fields'

/** The caller's schedules: everybody has their own. */
export function SchedulesPage() {
  const { api } = useParley()
  const [schedules, retry] = useLoaded(() => api.all<Schedule>('/schedules'), [api])
  const [isMaking, setMaking] = useState(false)
  return (
    <div class="page narrow">
      <BackToBuild />
      <header class="page-head">
        <h1>Schedules</h1>
        <button type="button" class="primary" onClick={() => setMaking(true)}>
          New schedule
        </button>
      </header>
      <p class="hint">They run as you, with your rights and budgets. Others have their own and do not see yours.</p>
      <When state={schedules} what="schedules" retry={retry}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No schedules" />
          ) : (
            <ul class="cards" aria-label="Schedules">
              {all.map((schedule) => (
                <ScheduleCard key={schedule.id} schedule={schedule} changed={retry} />
              ))}
            </ul>
          )
        }
      </When>
      {isMaking ? (
        <NewScheduleDialog
          close={() => setMaking(false)}
          made={() => {
            setMaking(false)
            retry()
          }}
        />
      ) : null}
    </div>
  )
}

const TONE: Record<Schedule['status'], string> = { active: 'completed', paused: 'pending', stopped: 'failed', done: '' }

/** The body that leaves a schedule as it is, but for what is given. */
function again({ at, cron, zone, missed, overlap, ...target }: Schedule, part: Partial<NewSchedule>): NewSchedule {
  return { ...targetOf(target), at, cron, zone, missed, overlap, ...part }
}

function ScheduleCard({ schedule, changed }: { schedule: Schedule; changed: () => void }) {
  const { api, say } = useParley()
  const act = useAction()
  const [isOpen, setOpen] = useState(false)
  const path = `/schedules/${encodeURIComponent(schedule.id)}`
  const pause = (paused: boolean): Promise<boolean> =>
    act(async () => {
      await api.put(path, again(schedule, { paused }))
      say(paused ? 'It is paused: nothing is due.' : 'It goes on; what was due meanwhile is not caught up.')
      changed()
    }, `pause ${schedule.id}`)
  const drop = (): Promise<boolean> =>
    act(async () => {
      if (!window.confirm(`Delete the schedule ${schedule.id} with the record of its runs?`)) return
      await api.delete(path)
      changed()
    })
  return (
    <li class="card">
      <span class="line">
        <strong>{schedule.name ?? schedule.id}</strong>
        <Badge status={TONE[schedule.status]} label={schedule.status} />
      </span>
      <p class="told">{schedule.content}</p>
      <p class="meta">
        {schedule.cron === null ? (
          <>
            once, <Deadline at={schedule.at ?? ''} />
          </>
        ) : (
          <>
            <code>{schedule.cron}</code> in {schedule.zone}
          </>
        )}
        {' · '}
        {whereWords(schedule)}
      </p>
      {schedule.status_reason === null ? null : <p class="problem">{schedule.status_reason}</p>}
      {schedule.next_run_at === null ? null : (
        <p class="meta">
          Next <Deadline at={schedule.next_run_at} />
        </p>
      )}
      <details class="fine-print" onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>Last runs{schedule.last_run === null ? ': none yet' : ''}</summary>
        {isOpen ? <Runs path={path} /> : null}
      </details>
      <span class="row">
        {schedule.status === 'paused' || schedule.status === 'stopped' ? (
          <button type="button" onClick={() => void pause(false)}>
            Go on
          </button>
        ) : schedule.status === 'active' ? (
          <button type="button" onClick={() => void pause(true)}>
            Pause
          </button>
        ) : null}
        <button type="button" class="quiet" onClick={() => void drop()}>
          Delete
        </button>
      </span>
    </li>
  )
}

const RUN_TONE: Record<ScheduleRun['status'], string> = { pending: 'pending', posted: 'completed', skipped: '', missed: 'failed', refused: 'failed' }

function Runs({ path }: { path: string }) {
  const { api } = useParley()
  const [detail, retry] = useLoaded(() => api.get<ScheduleDetail>(path), [api, path])
  return (
    <When state={detail} what="its runs" retry={retry}>
      {({ runs }) =>
        runs.length === 0 ? (
          <p class="hint">Nothing was due yet.</p>
        ) : (
          <ul class="plain-list" aria-label="Runs">
            {runs.map((run) => (
              <li key={run.due_at}>
                <Badge status={RUN_TONE[run.status]} label={run.status} /> due <Time at={run.due_at} />{' '}
                {run.session_id === null ? null : <a href={run.turn_id === null ? link('sessions', run.session_id) : link('sessions', run.session_id, 'turns', run.turn_id)}>its turn</a>}
                {run.reason === null ? null : <p class="meta">{run.reason}</p>}
              </li>
            ))}
          </ul>
        )
      }
    </When>
  )
}

function NewScheduleDialog({ close, made }: { close: () => void; made: () => void }) {
  const { api } = useParley()
  const act = useAction()
  const [id, setId] = useState('')
  const [target, setTarget] = useState(BLANK_TARGET)
  const [isOnce, setOnce] = useState(false)
  const [at, setAt] = useState('')
  const [cron, setCron] = useState('0 0 9 * * MON-FRI')
  const [zone, setZone] = useState(() => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC')
  const [missed, setMissed] = useState<NonNullable<NewSchedule['missed']>>('skip')
  const [overlap, setOverlap] = useState<NonNullable<NewSchedule['overlap']>>('skip')
  const make = (): Promise<boolean> =>
    act(async () => {
      const { session_id, agent_id, content } = target
      const when = isOnce ? { at: new Date(at).toISOString() } : { cron, zone }
      await api.put(`/schedules/${encodeURIComponent(id)}`, { content, ...(session_id === null ? { agent_id } : { session_id }), ...when, missed, overlap } satisfies NewSchedule)
      made()
    }, 'make a schedule')
  return (
    <Dialog title="New schedule" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void make()
        }}
      >
        <label class="field">
          Id
          <input autofocus required pattern={ID_PATTERN} placeholder="news" value={id} onInput={(event) => setId(event.currentTarget.value)} />
        </label>
        <TargetFields target={target} change={(part) => setTarget((before) => ({ ...before, ...part }))} />
        <label class="field">
          When
          <select value={isOnce ? 'once' : 'again'} onChange={(event) => setOnce(event.currentTarget.value === 'once')}>
            <option value="again">again and again</option>
            <option value="once">once</option>
          </select>
        </label>
        {isOnce ? (
          <label class="field">
            At
            <input type="datetime-local" required value={at} onInput={(event) => setAt(event.currentTarget.value)} />
          </label>
        ) : (
          <>
            <label class="field">
              NCRONTAB: second, minute, hour, day, month, day of week
              <input class="code" required value={cron} onInput={(event) => setCron(event.currentTarget.value)} />
            </label>
            <label class="field">
              Time zone
              <input required value={zone} onInput={(event) => setZone(event.currentTarget.value)} />
            </label>
          </>
        )}
        <label class="field">
          A run that was missed
          <select value={missed} onChange={(event) => setMissed(event.currentTarget.value as typeof missed)}>
            <option value="skip">does not run</option>
            <option value="run_once">the newest one runs</option>
            <option value="run_all">each runs, the newest 24</option>
          </select>
        </label>
        <label class="field">
          While the turn before it is open
          <select value={overlap} onChange={(event) => setOverlap(event.currentTarget.value as typeof overlap)}>
            <option value="skip">it does not run</option>
            <option value="queue">it waits</option>
          </select>
        </label>
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Make it
          </button>
        </footer>
      </form>
    </Dialog>
  )
}
