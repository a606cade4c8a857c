import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { Api, Live } from '../client'
import { ApprovalPage } from './approvals/approval-page'
import { Inbox } from './approvals/inbox'
import { InboxPage, useInbox } from './approvals/inbox-page'
import { Badge, Dialog, Empty, Icon, IconButton } from './bits'
import { ChatPage } from './chat/chat-page'
import { NewSession } from './chat/session/new-session'
import { ParleyContext, useLiveState, useParley, type Parley } from './context'
import {
  apiOrigin,
  becomeDevUser,
  DEV_DEFAULT,
  devUser,
  identity,
  identityHeaders,
  isDev,
  parsedUser,
  signedInFor,
  signIn,
  signOut,
  type Identity,
} from './identity'
import {
  AgentPage,
  AgentsPage,
  BuildPage,
  McpPage,
  OverviewPage,
  PlaygroundPage,
  PoliciesPage,
  isAddress, ROOM_NAMES,
  SchedulesPage,
  SessionInsightPage,
  ToolsPage,
  TriggersPage,
  TurnPage,
  WebhooksPage,
} from './rooms'
import { link, usePath } from './router'
import { canNotify, isNotifying, showCount, startNotifying, stopNotifying, useRoomTitle, watch } from './shell/attention'
import { HelpSheet } from './shell/help'
import { useKeys } from './shell/keys'
import { Palette, type Command } from './shell/palette'
import { goToSearch } from './shell/search-field'
import { watchQuestions } from './shell/questions'
import { toggleTheme } from './shell/theme'

const SAID_MS = 6_000

interface Said {
  text: string
  kind: 'info' | 'error'
}

const LONGEST_TIMER_MS = 2 ** 31 - 1

/** refused: why a sign-in that came with the address was not taken; null when none came, or it was taken. */
export function App({ refused }: { refused: string | null }) {
  const [isSignedIn, setSignedIn] = useState(signedInFor() !== null)
  useEffect(() => {
    if (!isSignedIn) return undefined
    const timer = setTimeout(() => setSignedIn(signedInFor() !== null), Math.min(signedInFor() ?? 0, LONGEST_TIMER_MS))
    return () => clearTimeout(timer)
  }, [isSignedIn])
  return isSignedIn ? <Console refused={refused} /> : <SignIn refused={refused} />
}

/** When the API has another origin: its platform signs the caller in and redirects back here. */
function SignIn({ refused }: { refused: string | null }) {
  return (
    <main class="sign-in">
      <Empty title="Sign in to go on">
        {refused === null ? null : <p role="alert">{refused}</p>}
        <p>You will return to this page.</p>
        <button type="button" class="primary" autofocus onClick={signIn}>
          Sign in
        </button>
      </Empty>
    </main>
  )
}

function Console({ refused }: { refused: string | null }) {
  const base = useMemo(() => {
    const api = new Api({ baseUrl: apiOrigin, headers: identityHeaders })
    const live = new Live(api)
    return { api, live, inbox: new Inbox(api, live) }
  }, [])
  const [me, setMe] = useState<Identity | null>(isDev ? parsedUser(devUser()) : null)
  const [said, setSaid] = useState<Said | null>(refused === null ? null : { text: refused, kind: 'error' })
  const [sessionsTouched, setTouched] = useState(0)
  const say = useCallback((text: string, kind: 'info' | 'error' = 'info') => setSaid({ text, kind }), [])
  const touchSessions = useCallback(() => setTouched((before) => before + 1), [])
  const [open, setOpen] = useState<'palette' | 'help' | 'new' | null>(null)
  const close = useCallback(() => setOpen(null), [])
  const newSession = useCallback(() => setOpen('new'), [])
  useKeys({ palette: () => setOpen('palette'), help: () => setOpen('help'), create: newSession, search: goToSearch })
  useEffect(() => watch(base.inbox, () => say('This browser shows no notifications for pages.', 'error')), [base])
  useEffect(() => watchQuestions(base.api, base.live, (questions) => showCount({ questions })), [base])
  useEffect(() => base.live.listen({ access: touchSessions }), [base])
  useEffect(() => {
    base.live.start()
    base.inbox.start()
    void identity(base.api).then(setMe)
    return () => {
      base.inbox.stop()
      void base.live.stop()
    }
  }, [base])
  useEffect(() => {
    if (said === null) return undefined
    const timer = setTimeout(() => setSaid(null), SAID_MS)
    return () => clearTimeout(timer)
  }, [said])
  const parley: Parley = useMemo(
    () => ({ ...base, me, say, touchSessions, sessionsTouched, newSession }),
    [base, me, say, touchSessions, sessionsTouched, newSession],
  )
  return (
    <ParleyContext.Provider value={parley}>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById('main')?.focus() }}>
        Skip to the content
      </a>
      <Rail help={() => setOpen('help')} />
      <main id="main" tabIndex={-1}>
        <Pages />
      </main>
      <div class="said-box" aria-live="polite" role="status">
        {said === null ? null : (
          <p class={said.kind}>
            {said.text}
            <IconButton label="Dismiss" icon="close" onClick={() => setSaid(null)} />
          </p>
        )}
      </div>
      {open === 'palette' ? <Palette commands={commandsOf({ newSession, help: () => setOpen('help'), say })} close={close} /> : null}
      {open === 'help' ? <HelpSheet close={close} /> : null}
      {open === 'new' ? <NewSession close={close} /> : null}
    </ParleyContext.Provider>
  )
}

function commandsOf({ newSession, help, say }: { newSession: () => void; help: () => void; say: Parley['say'] }): Command[] {
  return [
    { name: 'New session', run: newSession },
    { name: 'Light or dark', run: toggleTheme },
    { name: isNotifying() ? 'Stop notifications' : 'Notify me of approvals', run: () => void toggleNotifications(say) },
    { name: 'Shortcuts', run: help },
  ]
}

async function toggleNotifications(say: Parley['say']): Promise<void> {
  if (isNotifying()) {
    stopNotifying()
    return say('No more notifications.')
  }
  if (!canNotify() || !(await startNotifying())) return say('The browser does not allow this page to notify you.', 'error')
  say('You are told of approvals that wait for you while you look elsewhere.')
}

/** Rooms whose addresses say what is chosen in them. */
const PAGES_OF_THEIR_OWN = new Set(['playground', 'policies'])

/** After a change of the page, put the focus at its heading, unless it is in the page already; and say where one is. */
function useArrival(title: string): string {
  // What follows is a place in the page.
  const parts = usePath()
  const path = parts.slice(0, PAGES_OF_THEIR_OWN.has(parts[0] ?? '') ? 1 : 4).join('/')
  const before = useRef(path)
  const [said, setSaid] = useState('')
  useEffect(() => {
    if (before.current === path) return undefined
    before.current = path
    setSaid(`Opened: ${title}`)
    const main = document.getElementById('main')
    // A room may be loaded first: until its heading is drawn the focus is at the content.
    const drawn = new MutationObserver(() => {
      if (document.activeElement !== main && document.activeElement !== document.body) return drawn.disconnect()
      if (toHeading(main)) drawn.disconnect()
    })
    const frame = requestAnimationFrame(() => {
      const at = document.activeElement
      if (main === null || (at !== main && main.contains(at)) || document.querySelector('dialog[open]') !== null) return
      if (toHeading(main)) return
      main.focus()
      drawn.observe(main, { childList: true, subtree: true })
    })
    return () => {
      cancelAnimationFrame(frame)
      drawn.disconnect()
    }
  }, [path])
  return said
}

/** Whether there is a heading, which then has the focus. */
function toHeading(main: HTMLElement | null): boolean {
  const heading = main?.querySelector<HTMLElement>('h1') ?? null
  if (heading === null) return false
  heading.tabIndex = -1
  heading.focus()
  return true
}

function Pages() {
  const path = usePath()
  const [room = 'sessions', id, sub, subId, place] = path
  const isKnown = isAddress(path)
  const title = (isKnown ? ROOM_NAMES[room] : undefined) ?? 'Not found'
  useRoomTitle(title)
  const said = useArrival(title)
  return (
    <>
      <p class="hidden" role="status">
        {said}
      </p>
      {isKnown ? <Page room={room} id={id} sub={sub} subId={subId} place={place} /> : <NoPage />}
    </>
  )
}

function NoPage() {
  return (
    <div class="page">
      <Empty title="There is no such page">
        <a href={link('sessions')}>To the sessions</a>
      </Empty>
    </div>
  )
}

interface Address {
  room: string
  id: string | undefined
  sub: string | undefined
  subId: string | undefined
  place: string | undefined
}

function Page({ room, id, sub, subId, place }: Address) {
  if (room === 'sessions' && id !== undefined && sub === 'turns' && subId !== undefined) return <TurnPage sessionId={id} turnId={subId} rowId={place ?? null} />
  if (room === 'sessions') return <ChatPage sessionId={id ?? null} at={sub === 'at' ? (subId ?? null) : null} />
  if (room === 'approvals') return id === undefined ? <InboxPage /> : <ApprovalPage key={id} approvalId={id} />
  if (room === 'insight') return id === undefined ? <OverviewPage /> : <SessionInsightPage key={id} sessionId={id} />
  if (room === 'agents') return id === undefined ? <AgentsPage /> : <AgentPage key={id} agentId={id} />
  if (room === 'tools') return <ToolsPage />
  if (room === 'webhooks') return <WebhooksPage />
  if (room === 'build') return <BuildPage />
  if (room === 'playground') return <PlaygroundPage />
  if (room === 'policies') return <PoliciesPage />
  if (room === 'mcp') return <McpPage />
  if (room === 'schedules') return <SchedulesPage />
  if (room === 'triggers') return <TriggersPage />
  return <NoPage />
}

/** Rooms that one goes to from the room Build. */
const BUILT = new Set(['build', 'agents', 'playground', 'policies', 'mcp', 'tools', 'schedules', 'triggers', 'webhooks'])

function Rail({ help }: { help: () => void }) {
  const [room = 'sessions'] = usePath()
  const { pending } = useInbox()
  const state = useLiveState()
  const current = (name: string): 'page' | undefined => (room === name ? 'page' : undefined)
  return (
    <header class="rail">
      <a class="brand" href={link('sessions')} aria-label="Parley">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <rect width="32" height="32" rx="8" />
          <path d="M8 10.5A2.5 2.5 0 0 1 10.5 8h11a2.500 2.500 0 0 1 2.500 2.500v7a2.500 2.500 0 0 1-2.500 2.500H15l-5 4v-4a2 2 0 0 1-2-2z" />
          <path d="m12.500 14 2.500 2.500 4.500-4.500" />
        </svg>
      </a>
      <nav aria-label="Rooms">
        <a href={link('sessions')} aria-current={current('sessions')}>
          <Icon name="chat" />
          Chat
        </a>
        <a href={link('approvals')} aria-current={current('approvals')}>
          <Icon name="check" />
          Approvals
          {pending.length === 0 ? null : <span class="count" aria-label={`${pending.length} waiting`}>{pending.length}</span>}
        </a>
        <a href={link('insight')} aria-current={current('insight')}>
          <Icon name="chart" />
          Insight
        </a>
        <a href={link('build')} aria-current={BUILT.has(room) ? 'page' : undefined}>
          <Icon name="tool" />
          Build
        </a>
      </nav>
      <div class="foot">
        <span class="live" title="Live connection">
          <Badge status={state} />
        </span>
        <NotifyButton />
        <ThemeButton />
        <IconButton label="Shortcuts" icon="keys" class="quiet icon keys" onClick={help} />
        <Me />
      </div>
    </header>
  )
}

function ThemeButton() {
  return <IconButton label="Light or dark" icon="sun" onClick={toggleTheme} />
}

function NotifyButton() {
  const { say } = useParley()
  const [isOn, setOn] = useState(isNotifying)
  if (!('Notification' in window)) return null
  return (
    <IconButton label="Notify me of approvals" icon="bell" class="quiet icon bell" aria-pressed={isOn} onClick={() => void toggleNotifications(say).then(() => setOn(isNotifying()))} />
  )
}

const PEOPLE = [DEV_DEFAULT, 'ana;approver', 'ben', 'cleo;approver,admin']

/** The caller; in development, a switch of the user to act as. */
function Me() {
  const { me } = useParley()
  const [isOpen, setOpen] = useState(false)
  if (signOut !== null) {
    return (
      <button type="button" class="quiet me" onClick={signOut}>
        Sign out
      </button>
    )
  }
  if (!isDev) return <span class="me">{me?.name ?? ''}</span>
  const change = (user: string): void => {
    if (user.trim() !== '') becomeDevUser(user.trim())
  }
  return (
    <>
      <button type="button" class="quiet me" title="Acting as" onClick={() => setOpen(true)}>
        {me?.name ?? '?'}
      </button>
      {isOpen ? (
        <Dialog title="Acting as" close={() => setOpen(false)}>
          <p class="hint">Only in development: callers name themselves, and nothing is verified.</p>
          <div class="people">
            {PEOPLE.map((user) => (
              <button key={user} type="button" aria-pressed={user === devUser()} onClick={() => change(user)}>
                <strong>{parsedUser(user).name}</strong>
                <small>{parsedUser(user).roles.join(', ') || 'no role'}</small>
              </button>
            ))}
          </div>
          <form
            onSubmit={(event) => {
              event.preventDefault()
              change(new FormData(event.currentTarget).get('user') as string)
            }}
          >
            <label class="field">
              Another user, as NAME;role,role
              <input name="user" defaultValue={devUser()} />
            </label>
            <footer>
              <button type="submit" class="primary">
                Act as
              </button>
            </footer>
          </form>
        </Dialog>
      ) : null}
    </>
  )
}
