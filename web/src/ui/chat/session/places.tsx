// The branches of a session and its checkpoints, to which it can go back.

import { useState } from 'preact/hooks'
import { jsonText, openTurn, type Agent, type Api, type Branch, type Checkpoint, type Conversation, type Message, type Page, type Session, type SessionFeed, type Turn } from '../../../client'
import { Badge, Dialog, Empty, Time, When } from '../../bits'
import { useAction, useLoaded, useParley, type Loaded } from '../../context'
import { DEFAULT_AGENT, useAgents } from './agent'
import { Menu } from './menu'

const FIRST = 20
const EXCERPT = 60

interface Props {
  feed: SessionFeed
  conversation: Conversation
}

export function useBranches({ feed, conversation }: Props): [Loaded<Branch[]>, () => void] {
  const { api } = useParley()
  const path = `/sessions/${encodeURIComponent(feed.sessionId)}/branches`
  const newest = conversation.messages.at(-1)?.branch ?? 0
  return useLoaded(() => api.all<Branch>(path), [api, path, newest, conversation.session.active_branch])
}

export function useSwitch({ feed }: Props): (branch: number) => Promise<boolean> {
  const { api } = useParley()
  const act = useAction()
  return (branch) =>
    act(async () => {
      feed.session(await api.post<Session>(`/sessions/${encodeURIComponent(feed.sessionId)}/branches/${branch}/activate`))
      await feed.reload()
    })
}

function branchName(branch: number): string {
  return branch === 0 ? 'First answers' : `Branch ${branch}`
}

/** The session's branches, when there is more than one. */
export function BranchMenu({ branches, ...props }: Props & { branches: readonly Branch[] }) {
  const switchTo = useSwitch(props)
  const isBusy = openTurn(props.conversation) !== null // the service would refuse
  if (branches.length < 2) return null
  return (
    <Menu label={`Branches (${branches.length})`} icon="fork">
      {branches.map(({ branch, active, message_count, created_at }) => (
        <button key={branch} type="button" aria-pressed={active} disabled={isBusy} onClick={() => void switchTo(branch)}>
          {branchName(branch)} · {message_count} of its own · <Time at={created_at} />
        </button>
      ))}
    </Menu>
  )
}

/** The user's message of each turn, as far as it is among the newest messages. */
interface Places {
  checkpoints: Checkpoint[]
  hasMore: boolean
  /** The user's message by turn id. */
  asked: ReadonlyMap<string, string>
}

export function PlacesDialog(props: Props & { close: () => void }) {
  const { feed, conversation, close } = props
  const { api, say, touchSessions } = useParley()
  const act = useAction()
  const path = `/sessions/${encodeURIComponent(feed.sessionId)}`
  const [most, setMost] = useState(FIRST)
  const [places, reload] = useLoaded(() => readPlaces(api, path, conversation, most), [api, path, most, conversation.session.active_branch])
  const [branches, reloadBranches] = useBranches(props)
  const [chosen, setChosen] = useState<Checkpoint | null>(null)
  const [isMaking, setMaking] = useState(false)
  const switchTo = useSwitch(props)
  const isOver = conversation.session.status === 'ENDED'
  const isBusy = openTurn(conversation) !== null

  if (chosen !== null) {
    const recover = (): void =>
      void act(async () => {
        feed.session(await api.post<Session>(`${path}/recover`, { checkpoint_id: chosen.id }))
        await feed.reload()
        touchSessions()
        say('Recovered. Later messages stay on their branch.')
        close()
      })
    return <Confirm key="confirm" checkpoint={chosen} name={what(chosen, places.phase === 'ready' ? places.value.asked : new Map())} conversation={conversation} back={() => setChosen(null)} recover={recover} />
  }
  return (
    <Dialog key="places" title="Checkpoints and branches" close={close}>
      {isOver ? null : (
        <form
          class="beside"
          onSubmit={(event) => {
            event.preventDefault()
            const form = event.currentTarget
            const label = (new FormData(form).get('label') as string).trim()
            setMaking(true)
            void act(async () => {
              await api.post<Checkpoint>(`${path}/checkpoints`, label === '' ? {} : { label })
              form.reset()
              reload()
            }).then(() => setMaking(false))
          }}
        >
          <label class="field">
            Label
            <input name="label" autofocus maxLength={200} placeholder="Optional" />
          </label>
          <button type="submit" disabled={isMaking}>
            Create a checkpoint
          </button>
        </form>
      )}
      {isBusy && !isOver ? <p class="hint">You cannot go back while a turn is open.</p> : null}
      <section aria-label="Checkpoints">
        <h3>Checkpoints</h3>
        <When state={places} what="checkpoints" retry={reload}>
          {({ checkpoints, hasMore, asked }) => (
            <>
              {checkpoints.length === 0 ? (
                <Empty title="None yet">
                  <p>A checkpoint is created before each turn.</p>
                </Empty>
              ) : null}
              <ul class="places">
                {checkpoints.map((checkpoint) => (
                  <li key={checkpoint.id}>
                    <span>
                      <strong>{what(checkpoint, asked)}</strong>
                      <small>
                        <Time at={checkpoint.created_at} /> · {branchName(checkpoint.branch)}
                      </small>
                    </span>
                    {isOver ? null : (
                      <button type="button" disabled={isBusy} aria-label={`Recover to here: ${what(checkpoint, asked)}`} onClick={() => setChosen(checkpoint)}>
                        Recover to here
                      </button>
                    )}
                  </li>
                ))}
              </ul>
              {hasMore && most < 200 ? (
                <button type="button" class="quiet" onClick={() => setMost(200)}>
                  Older checkpoints
                </button>
              ) : null}
            </>
          )}
        </When>
      </section>
      <section aria-label="Branches">
        <h3>Branches</h3>
        <When state={branches} what="branches" retry={reloadBranches}>
          {(all) => (
            <ul class="places">
              {all.map(({ branch, active, message_count, created_at }) => (
                <li key={branch}>
                  <span>
                    <strong>{branchName(branch)}</strong>
                    <small>
                      <Time at={created_at} /> · {message_count} of its own
                    </small>
                  </span>
                  {active ? (
                    <Badge status="ACTIVE" label="shown now" />
                  ) : isOver ? null : (
                    <button type="button" disabled={isBusy} aria-label={`Switch to ${branchName(branch)}`} onClick={() => void switchTo(branch)}>
                      Switch to it
                    </button>
                  )}
                </li>
              ))}
            </ul>
          )}
        </When>
      </section>
    </Dialog>
  )
}

interface ConfirmProps {
  checkpoint: Checkpoint
  name: string
  conversation: Conversation
  back: () => void
  recover: () => void
}

function Confirm({ checkpoint, name, conversation, back, recover }: ConfirmProps) {
  const [agents] = useAgents()
  const changes = changed(conversation.session, checkpoint, agents.phase === 'ready' ? agents.value : [])
  return (
    <Dialog title="Recover to here?" close={back}>
      <p>
        <strong>{name}</strong> <Time at={checkpoint.created_at} />
      </p>
      <p>
        The conversation goes on from the checkpoint. Nothing is lost: later messages stay on{' '}
        <strong>{branchName(conversation.session.active_branch)}</strong>, and you can switch back to it.
      </p>
      {changes.length === 0 ? null : (
        <>
          <p>These properties of the session also go back:</p>
          <ul class="changes">
            {changes.map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        </>
      )}
      <footer>
        <button type="button" autofocus onClick={back}>
          Leave it as it is
        </button>
        <button type="button" class="primary" onClick={recover}>
          Recover
        </button>
      </footer>
    </Dialog>
  )
}

async function readPlaces(api: Api, path: string, conversation: Conversation, limit: number): Promise<Places> {
  const [page, turns, questions] = await Promise.all([
    api.get<Page<Checkpoint>>(`${path}/checkpoints`, { limit }),
    api.get<Page<Turn>>(`${path}/turns`, { limit: 200 }),
    api.get<Page<Message>>(`${path}/messages`, { role: 'user', order: 'desc', limit: 200 }),
  ])
  const words = new Map([...conversation.messages, ...questions.items].map(({ id, content }) => [id, content]))
  const asked = new Map(turns.items.map(({ id, message_id }) => [id, words.get(message_id) ?? '']))
  return { checkpoints: page.items, hasMore: page.next_cursor !== null, asked }
}

function what({ automatic, label, before_turn_id }: Checkpoint, asked: ReadonlyMap<string, string>): string {
  if (!automatic) return label ?? 'A checkpoint'
  const question = (before_turn_id === null ? '' : (asked.get(before_turn_id) ?? '')).trim()
  if (question === '') return 'Before an earlier message'
  return `Before “${question.length > EXCERPT ? `${question.slice(0, EXCERPT)}…` : question}”`
}

/** The properties of the session that a recovery changes, as text. */
function changed(session: Session, { state }: Checkpoint, agents: readonly Agent[]): string[] {
  const agentName = (id: string | null): string => agents.find((agent) => agent.id === (id ?? DEFAULT_AGENT))?.name ?? id ?? DEFAULT_AGENT
  const tags = (names: readonly string[]): string => (names.length === 0 ? 'none' : names.join(', '))
  return [
    ...(state.name === session.name ? [] : [`Name: ${state.name ?? 'Untitled'}`]),
    ...(state.agent_id === session.agent_id ? [] : [`Agent: ${agentName(state.agent_id)}`]),
    ...(tags(state.tags) === tags(session.tags) ? [] : [`Tags: ${tags(state.tags)}`]),
    ...(jsonText(state.config) === jsonText(session.config) ? [] : ['Settings of its turns']),
  ]
}
