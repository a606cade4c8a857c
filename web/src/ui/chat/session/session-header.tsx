import { useState } from 'preact/hooks'
import type { Access, Bookmark, Branch, Conversation, Session, SessionFeed, Tag } from '../../../client'
import { Badge, Dialog, Icon, IconButton, Time, titleOf } from '../../bits'
import { useAction, useLoaded, useParley } from '../../context'
import { go, link } from '../../router'
import { SessionAgent } from './agent'
import { save } from '../messages/attachments'
import { Menu } from './menu'
import { usePin } from './pins'
import { BranchMenu, PlacesDialog } from './places'
import { Here } from './here'
import { SettingsDialog } from './settings'
import { ShareDialog } from './share'

const FORMATS = ['md', 'html', 'json', 'csv', 'pdf', 'docx'] as const

interface HeaderProps {
  feed: SessionFeed
  conversation: Conversation
  marks: Bookmark[]
  /** What the caller may do; null: not known yet, then all is offered and the service decides. */
  access: Access | null
  branches: readonly Branch[]
}

export function SessionHeader({ feed, conversation, marks, access, branches }: HeaderProps) {
  const { api, touchSessions } = useParley()
  const act = useAction()
  const { session } = conversation
  const path = `/sessions/${encodeURIComponent(session.id)}`
  const [isNaming, setNaming] = useState(false)
  const [isDeleting, setDeleting] = useState(false)
  const [isEnding, setEnding] = useState(false)
  const [isGoingBack, setGoingBack] = useState(false)
  const [isSetting, setSetting] = useState(false)
  const [isSharing, setSharing] = useState(false)
  const pin = usePin(session.id)
  const isOwner = access === null || access === 'owner'
  const shown = titleOf(session)

  const change = (work: () => Promise<Session>): Promise<boolean> =>
    act(async () => {
      feed.session(await work())
      touchSessions()
    })
  const move = (verb: string): void => void change(() => api.post<Session>(`${path}/${verb}`))

  return (
    <header class="session-header">
      <a class="quiet icon back" href={link('sessions')} aria-label="All sessions">
        <Icon name="back" />
      </a>
      <div class="title">
        {isNaming ? (
          <form
            onSubmit={(event) => {
              event.preventDefault()
              const name = new FormData(event.currentTarget).get('name') as string
              setNaming(false)
              void change(() => api.patch<Session>(path, { name: name.trim() === '' ? null : name.trim() }))
            }}
          >
            <input name="name" aria-label="Name of the session" maxLength={200} defaultValue={session.name ?? ''} placeholder={session.title ?? ''} autoFocus onKeyDown={(event) => event.key === 'Escape' && setNaming(false)} />
          </form>
        ) : (
          <h1 tabIndex={-1}>
            {isOwner ? (
              <button type="button" class="quiet name" title={`${shown}: rename`} onClick={() => setNaming(true)}>
                {shown}
              </button>
            ) : (
              <span class="name" title={shown}>
                {shown}
              </span>
            )}
          </h1>
        )}
        <div class="meta">
          {session.status === 'ACTIVE' || session.status === 'CREATED' ? null : <Badge status={session.status} />}
          <SessionAgent session={session} change={change} />
          <Tags session={session} change={isOwner ? change : null} />
          <Here sessionId={session.id} asked={isSharing} />
        </div>
      </div>
      <div class="tools">
        <BranchMenu feed={feed} conversation={conversation} branches={branches} />
        <Menu label={`Bookmarks (${marks.length})`} icon="star">
          {marks.length === 0 ? <p class="hint">No bookmarks yet.</p> : null}
          {marks.map((mark) => (
            <a key={mark.id} href={link('sessions', session.id, 'at', mark.message_id)}>
              {excerpt(conversation, mark)} <Time at={mark.created_at} />
            </a>
          ))}
        </Menu>
        <IconButton label="Share" icon="people" onClick={() => setSharing(true)} />
        <Menu label="More" icon="more">
          {pin === null ? null : (
            <button type="button" onClick={pin.toggle}>
              {pin.isOn ? 'Unpin' : 'Pin to the top'}
            </button>
          )}
          <a href={link('insight', session.id)}>Figures and audit trail</a>
          <button type="button" onClick={() => setGoingBack(true)}>
            Checkpoints and branches
          </button>
          {isOwner ? (
            <>
              <button type="button" onClick={() => setSetting(true)}>
                Settings
              </button>
              {session.status === 'ACTIVE' ? <button type="button" onClick={() => move('suspend')}>Suspend</button> : null}
              {session.status === 'SUSPENDED' ? <button type="button" onClick={() => move('resume')}>Resume</button> : null}
              {session.status === 'ENDED' ? null : <button type="button" onClick={() => setEnding(true)}>End for good…</button>}
            </>
          ) : null}
          <p class="hint">Export as</p>
          <div class="formats">
            {FORMATS.map((format) => (
              <button
                key={format}
                type="button"
                onClick={() => void act(async () => save(await api.blob(`${path}/export?format=${format}`), `${session.name ?? session.title ?? session.id}.${format}`))}
              >
                {format}
              </button>
            ))}
          </div>
          {isOwner ? (
            <button type="button" class="danger" onClick={() => setDeleting(true)}>
              Delete…
            </button>
          ) : null}
        </Menu>
      </div>
      {isGoingBack ? <PlacesDialog feed={feed} conversation={conversation} close={() => setGoingBack(false)} /> : null}
      {isSharing ? <ShareDialog feed={feed} access={access} close={() => setSharing(false)} /> : null}
      {isSetting ? <SettingsDialog session={session} saved={(now) => feed.session(now)} close={() => setSetting(false)} /> : null}
      {isEnding ? (
        <Dialog title="End this session for good?" close={() => setEnding(false)}>
          <p>Nobody can write in it again. It can still be read, exported and forked. What runs in it is stopped.</p>
          <footer>
            <button type="button" onClick={() => setEnding(false)}>
              Keep it open
            </button>
            <button
              type="button"
              class="danger"
              onClick={() => {
                setEnding(false)
                move('end')
              }}
            >
              End it
            </button>
          </footer>
        </Dialog>
      ) : null}
      {isDeleting ? (
        <Dialog title="Delete this session?" close={() => setDeleting(false)}>
          <p>Everything in it is erased: messages, files, approvals. This cannot be undone.</p>
          <footer>
            <button type="button" onClick={() => setDeleting(false)}>
              Keep it
            </button>
            <button
              type="button"
              class="danger"
              onClick={() =>
                void act(async () => {
                  // Leave first, or its feed would read a session that is being erased.
                  await feed.close()
                  try {
                    await api.delete(path)
                  } finally {
                    go('sessions')
                    touchSessions()
                  }
                })
              }
            >
              Delete
            </button>
          </footer>
        </Dialog>
      ) : null}
    </header>
  )
}

function excerpt(conversation: Conversation, mark: Bookmark): string {
  const content = conversation.messages.find((message) => message.id === mark.message_id)?.content ?? mark.note ?? 'An earlier message'
  return content.length > 60 ? `${content.slice(0, 60)}…` : content
}

/** change: null for those who may not. */
function Tags({ session, change }: { session: Session; change: ((work: () => Promise<Session>) => Promise<boolean>) | null }) {
  const { api } = useParley()
  const [known] = useLoaded(() => api.all<Tag>('/tags'), [api])
  const path = (name: string): string => `/sessions/${encodeURIComponent(session.id)}/tags/${encodeURIComponent(name)}`
  const isOver = session.status === 'ENDED' || change === null
  const offered = known.phase === 'ready' ? known.value.filter(({ name }) => !session.tags.includes(name)) : []
  const untag = async (name: string): Promise<Session> => {
    await api.delete(path(name))
    return { ...session, tags: session.tags.filter((other) => other !== name) }
  }
  return (
    <>
      {session.tags.map((name) => (
        <span key={name} class="tag" title={name}>
          <span>{name}</span>
          {isOver ? null : <IconButton label={`Remove tag ${name}`} icon="close" onClick={() => void change(() => untag(name))} />}
        </span>
      ))}
      {isOver ? null : (
        <Menu label="Add a tag" icon="tag">
          {offered.map(({ name }) => (
            <button key={name} type="button" onClick={() => void change(() => api.put<Session>(path(name)))}>
              {name}
            </button>
          ))}
          <form
            onSubmit={(event) => {
              event.preventDefault()
              const name = (new FormData(event.currentTarget).get('tag') as string).trim()
              if (name !== '') void change(() => api.put<Session>(path(name)))
            }}
          >
            <input name="tag" aria-label="Another tag" placeholder="Another tag" maxLength={64} />
          </form>
        </Menu>
      )}
    </>
  )
}
