import { useState } from 'preact/hooks'
import type { NewTrigger, PostedTurn, Trigger, TriggerSource } from '../../client'
import { Badge, Dialog, Empty, Time, When } from '../bits'
import { BackToBuild } from '../build/build-page'
import { useAction, useLoaded, useParley } from '../context'
import { go, link } from '../router'
import { BLANK_TARGET, ID_PATTERN, payloadOf, targetOf, TargetFields, whereWords } from './target-fields'

/** The caller's triggers: everybody has their own. */
export function TriggersPage() {
  const { api } = useParley()
  const [triggers, retry] = useLoaded(() => api.all<Trigger>('/triggers'), [api])
  const [isMaking, setMaking] = useState(false)
  const [told, setTold] = useState<Trigger | null>(null)
  return (
    <div class="page narrow">
      <BackToBuild />
      <header class="page-head">
        <h1>Triggers</h1>
        <button type="button" class="primary" onClick={() => setMaking(true)}>
          New trigger
        </button>
      </header>
      <p class="hint">They post as you, when you fire them or when a signed webhook or a message of the queue comes. Others have their own and do not see yours.</p>
      <When state={triggers} what="triggers" retry={retry}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No triggers" />
          ) : (
            <ul class="cards" aria-label="Triggers">
              {all.map((trigger) => (
                <TriggerCard key={trigger.id} trigger={trigger} changed={retry} tell={setTold} />
              ))}
            </ul>
          )
        }
      </When>
      {isMaking ? (
        <NewTriggerDialog
          close={() => setMaking(false)}
          made={(trigger) => {
            setMaking(false)
            setTold(trigger)
            retry()
          }}
        />
      ) : null}
      {told === null ? null : <Secret trigger={told} close={() => setTold(null)} />}
    </div>
  )
}

const TONE: Record<Trigger['status'], string> = { active: 'completed', paused: 'pending', stopped: 'failed' }

interface CardProps {
  trigger: Trigger
  changed: () => void
  tell: (trigger: Trigger) => void
}

function TriggerCard({ trigger, changed, tell }: CardProps) {
  const { api, say } = useParley()
  const act = useAction()
  const [isFiring, setFiring] = useState(false)
  const path = `/triggers/${encodeURIComponent(trigger.id)}`
  const pause = (paused: boolean): Promise<boolean> =>
    act(async () => {
      await api.put(path, { ...targetOf(trigger), concurrency: trigger.concurrency, sources: trigger.sources, paused } satisfies NewTrigger)
      say(paused ? 'It is paused: whoever fires it is refused.' : 'It takes fires again.')
      changed()
    }, `pause ${trigger.id}`)
  const rotate = (): Promise<boolean> =>
    act(async () => {
      tell(await api.post<Trigger>(`${path}/rotate`))
      changed()
    }, `rotate ${trigger.id}`)
  const drop = (): Promise<boolean> =>
    act(async () => {
      if (!window.confirm(`Delete the trigger ${trigger.id}? Its address takes nothing any more.`)) return
      await api.delete(path)
      changed()
    })
  return (
    <li class="card">
      <span class="line">
        <strong>{trigger.name ?? trigger.id}</strong>
        <Badge status={TONE[trigger.status]} label={trigger.status} />
      </span>
      <p class="told">{trigger.content}</p>
      <p class="meta">{whereWords(trigger)}</p>
      {trigger.sources.length === 0 ? <p class="meta">Nobody but you fires it</p> : null}
      {trigger.sources.includes('webhook') ? (
        <p class="meta">
          Signed webhooks: <code class="address">{trigger.url}</code>
        </p>
      ) : null}
      {trigger.sources.includes('queue') ? (
        <p class="meta">
          {trigger.queue === null ? 'Messages of a queue: the app has none' : <>Messages of the queue {trigger.queue}: <code class="address">{`{"trigger": "${trigger.uid}", "payload": …}`}</code></>}
        </p>
      ) : null}
      {trigger.status_reason === null ? null : <p class="problem">{trigger.status_reason}</p>}
      {trigger.is_secret_void && trigger.sources.includes('webhook') ? <p class="problem">The key that its secret was made with is retired: make a new secret.</p> : null}
      <p class="meta">
        {trigger.last_fired_at === null ? (
          'Never fired'
        ) : (
          <>
            Fired last <Time at={trigger.last_fired_at} />
            {trigger.last_session_id === null ? null : (
              <>
                {', '}
                <a href={trigger.last_turn_id === null ? link('sessions', trigger.last_session_id) : link('sessions', trigger.last_session_id, 'turns', trigger.last_turn_id)}>its turn</a>
              </>
            )}
          </>
        )}
      </p>
      {trigger.last_refused_at === null ? null : (
        <p class="meta">
          Refused last <Time at={trigger.last_refused_at} />: {trigger.last_refusal}
        </p>
      )}
      <span class="row">
        {trigger.status === 'active' ? (
          <>
            <button type="button" onClick={() => setFiring(true)}>
              Fire
            </button>
            <button type="button" onClick={() => void pause(true)}>
              Pause
            </button>
          </>
        ) : (
          <button type="button" onClick={() => void pause(false)}>
            Go on
          </button>
        )}
        {trigger.sources.includes('webhook') ? (
          <button type="button" class="quiet" onClick={() => void rotate()}>
            New secret
          </button>
        ) : null}
        <button type="button" class="quiet" onClick={() => void drop()}>
          Delete
        </button>
      </span>
      {isFiring ? <Fire trigger={trigger} path={path} close={() => setFiring(false)} /> : null}
    </li>
  )
}

function Fire({ trigger, path, close }: { trigger: Trigger; path: string; close: () => void }) {
  const { api } = useParley()
  const act = useAction()
  const [text, setText] = useState('')
  const payload = payloadOf(text)
  const fire = (): Promise<boolean> =>
    act(async () => {
      if (!payload.ok) return
      const { turn } = await api.post<PostedTurn>(`${path}/fire`, { payload: payload.value })
      close()
      go('sessions', turn.session_id)
    }, `fire ${trigger.id}`)
  return (
    <Dialog title={`Fire ${trigger.name ?? trigger.id}`} close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void fire()
        }}
      >
        <label class="field">
          Payload as JSON, which the model reads as data from outside
          <textarea class="code" rows={4} spellcheck={false} autofocus placeholder="None" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        {payload.ok ? null : <p class="problem">{payload.problem}</p>}
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={!payload.ok}>
            Fire
          </button>
        </footer>
      </form>
    </Dialog>
  )
}

/** Shown this once. */
function Secret({ trigger, close }: { trigger: Trigger; close: () => void }) {
  if (trigger.secret === null || !trigger.sources.includes('webhook')) return null
  return (
    <Dialog title="Its secret, shown this once" close={close}>
      <p class="hint">Give both to whoever sends the webhooks.</p>
      <dl class="arguments">
        <div>
          <dt>Address</dt>
          <dd>{trigger.url}</dd>
        </div>
        <div>
          <dt>Secret</dt>
          <dd>{trigger.secret}</dd>
        </div>
      </dl>
      <footer>
        <button type="button" class="primary" onClick={close}>
          I have it
        </button>
      </footer>
    </Dialog>
  )
}

const SOURCES: [TriggerSource, string][] = [
  ['webhook', 'Signed webhooks'],
  ['queue', 'A queue: whoever may write to it'],
]

function NewTriggerDialog({ close, made }: { close: () => void; made: (trigger: Trigger) => void }) {
  const { api } = useParley()
  const act = useAction()
  const [id, setId] = useState('')
  const [target, setTarget] = useState(BLANK_TARGET)
  const [sources, setSources] = useState<TriggerSource[]>(['webhook'])
  const take = (source: TriggerSource, isTaken: boolean): void => setSources((before) => [...before.filter((one) => one !== source), ...(isTaken ? [source] : [])])
  const make = (): Promise<boolean> =>
    act(async () => {
      const { session_id, agent_id, content } = target
      made(await api.put<Trigger>(`/triggers/${encodeURIComponent(id)}`, { content, sources, ...(session_id === null ? { agent_id } : { session_id }) } satisfies NewTrigger))
    }, 'make a trigger')
  return (
    <Dialog title="New trigger" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void make()
        }}
      >
        <label class="field">
          Id
          <input autofocus required pattern={ID_PATTERN} placeholder="orders" value={id} onInput={(event) => setId(event.currentTarget.value)} />
        </label>
        <TargetFields target={target} change={(part) => setTarget((before) => ({ ...before, ...part }))} />
        <fieldset class="plain">
          <legend>What may fire it beside you</legend>
          {SOURCES.map(([source, words]) => (
            <label key={source} class="check">
              <input type="checkbox" checked={sources.includes(source)} onChange={(event) => take(source, event.currentTarget.checked)} />
              {words}
            </label>
          ))}
        </fieldset>
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
