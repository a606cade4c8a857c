import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks'
import { jsonText, openTurn, type Bookmark, type Branch, type Conversation, type MessageView, type PostedTurn, type Session, type SessionFeed, type ToolWait } from '../../client'
import { Empty, Failed, Icon, Loading, titleOf } from '../bits'
import { useAccess, useAction, useLoaded, useLiveState, useParley, useRefusals } from '../context'
import { go, link } from '../router'
import { Composer } from './composer'
import { authorName, isShared } from './messages/authors'
import { MessageRow, type MessageActions } from './messages/message'
import { forksByMessage, forksOf, Siblings, type Choose } from './messages/siblings'
import { Windowed } from './messages/windowed'
import { useBranches, useSwitch } from './session/places'
import { Picker } from './session/picker'
import { SessionHeader } from './session/session-header'
import { useNameTitle } from '../shell/attention'
import { isBehind, isTyping } from '../shell/keys'
import { keyOf } from './sending'
import { useFeed } from './use-feed'

const NEAR_END_PX = 80
const NO_QUESTIONS: Record<string, ToolWait> = {}
const NO_PROGRESS = {}
const NO_BRANCHES: Branch[] = []
const NO_SUBAGENTS = {}

export function ConversationPage({ sessionId, at }: { sessionId: string; at: string | null }) {
  const [feed, state] = useFeed(sessionId)
  const wasShown = useRef(false)
  if (state.phase === 'ready') wasShown.current = true
  useRefusals(() => feed?.check(), [feed])
  if (state.phase === 'failed' && wasShown.current && state.error.status === 404) return <Lost />
  if (state.phase === 'failed') {
    return (
      <div class="conversation">
        <Failed error={state.error} retry={feed === null ? undefined : () => void feed.reload()} />
        <p class="state">
          <a href={link('sessions')}>Back to all sessions</a>
        </p>
      </div>
    )
  }
  if (state.phase === 'loading' || feed === null) {
    return (
      <div class="conversation">
        <Loading what="the conversation" />
      </div>
    )
  }
  return <Shown key={sessionId} feed={feed} conversation={state.conversation} at={at} />
}

/** It was open, and is no longer the caller's to read. */
function Lost() {
  const { touchSessions } = useParley()
  useEffect(touchSessions, [])
  return (
    <div class="conversation">
      <div class="state" role="alert">
        <p class="title">You can no longer read this session</p>
        <p>You were taken out of it, or it was deleted.</p>
        <a href={link('sessions')}>Back to all sessions</a>
      </div>
    </div>
  )
}

function Shown({ feed, conversation, at }: { feed: SessionFeed; conversation: Conversation; at: string | null }) {
  const { api, me, say, touchSessions } = useParley()
  const act = useAction()
  const liveState = useLiveState()
  const path = `/sessions/${encodeURIComponent(feed.sessionId)}`
  const turn = openTurn(conversation)
  const access = useAccess(feed.sessionId)
  const mayWrite = isWritable(conversation) && access !== 'read'
  const [bookmarks, reloadBookmarks] = useLoaded(() => api.all<Bookmark>(`${path}/bookmarks`), [api, path])
  const marks = useMemo(
    () => new Map(bookmarks.phase === 'ready' ? bookmarks.value.map((mark) => [mark.message_id, mark]) : []),
    [bookmarks],
  )
  const marksNow = useRef(marks)
  marksNow.current = marks

  const isOpenNow = useRef(false)
  isOpenNow.current = turn !== null
  const edits = useRef(new Map<string, string>())
  const actions: MessageActions = useMemo(
    () => ({
      copy: (message) =>
        void act(async () => {
          await navigator.clipboard.writeText(message.content)
          say('Copied.')
        }),
      bookmark: (message) =>
        void act(async () => {
          const mark = marksNow.current.get(message.id)
          if (mark === undefined) await api.post(`${path}/bookmarks`, { message_id: message.id })
          else await api.delete(`${path}/bookmarks/${mark.id}`)
          reloadBookmarks()
        }, `bookmark ${message.id}`),
      regenerate: (message) =>
        void act(async () => {
          const posted = await api.post<PostedTurn>(`${path}/messages/${message.id}/regenerate`, {})
          await feed.reload()
          feed.posted(posted)
        }, `answer ${message.id} again`),
      edit: (message, content) => {
        const files = message.attachments.map(({ id }) => id)
        const body = { content, ...(files.length > 0 ? { attachment_ids: files } : {}), ...(isOpenNow.current ? { concurrency: 'enqueue' } : {}) }
        const request = jsonText([message.id, body])
        return act(async () => {
          const posted = await api.post<PostedTurn>(`${path}/messages/${message.id}/edit`, body, { 'idempotency-key': keyOf(edits.current, request) })
          await feed.reload()
          feed.posted(posted)
          edits.current.delete(request)
          touchSessions()
        }, `edit ${message.id}`)
      },
      fork: (message) =>
        void act(async () => {
          const made = await api.post<Session>(`${path}/fork`, { message_id: message.id })
          touchSessions()
          say('Forked into a session of its own.')
          go('sessions', made.id)
        }, `fork ${message.id}`),
    }),
    [api, feed, path],
  )

  const shown = useMemo(() => withoutAnswered(conversation.messages), [conversation.messages])
  const [branchesState] = useBranches({ feed, conversation })
  const branches = branchesState.phase === 'ready' ? branchesState.value : NO_BRANCHES
  const forks = useMemo(() => forksOf(branches, conversation.session.active_branch), [branches, conversation.session.active_branch])
  const forkBefore = useMemo(() => forksByMessage(forks, conversation.messages, shown, conversation.hasOlder), [forks, shown, conversation.hasOlder])
  const choose = useChoice({ feed, conversation, isOff: turn !== null || !mayWrite })
  const target = at === null ? null : shownAs(at, conversation.messages)
  const leftOut = useLeftOut(conversation.messages)
  const myName = me?.name ?? null
  const hasOthers = (access !== null && access !== 'owner') || isShared(conversation.messages, myName)
  const row = useCallback(
    (message: MessageView) => (
      <MessageRow
        key={message.id}
        message={message}
        author={authorName(message.author, myName, hasOthers)}
        isOwn={message.author === null || message.author === myName}
        approvals={conversation.approvals}
        questions={message.tool_calls.some((call) => conversation.questions[call.id] !== undefined) ? conversation.questions : NO_QUESTIONS}
        progress={message.tool_calls.some((call) => conversation.progress[call.id] !== undefined) ? conversation.progress : NO_PROGRESS}
        subagents={message.tool_calls.some((call) => conversation.subagents[call.id] !== undefined) ? conversation.subagents : NO_SUBAGENTS}
        leftOut={leftOut}
        turn={message.turn_id === null ? undefined : conversation.turns[message.turn_id]}
        isMarked={marks.has(message.id)}
        isReached={message.id === target}
        mayWrite={mayWrite}
        fork={forkBefore.get(message.id)}
        choose={choose}
        actions={actions}
      />
    ),
    [conversation.approvals, conversation.questions, conversation.progress, conversation.subagents, conversation.turns, mayWrite, forkBefore, choose, leftOut, myName, hasOthers, marks, actions, target],
  )
  useEffect(touchSessions, [conversation.session.status, turn?.status])
  useNameTitle(titleOf(conversation.session))
  useStopKey(turn === null || !mayWrite ? null : () => void act(() => api.post(`${path}/turns/${turn.id}/cancel`), `stop ${turn.id}`))
  const section = useRef<HTMLElement>(null)
  useEffect(() => {
    // Where there is nothing to write into, one goes on from the heading.
    if (document.activeElement === document.body) section.current?.querySelector('h1')?.focus()
  }, [])

  return (
    <section ref={section} class="conversation" aria-label="Conversation">
      <SessionHeader feed={feed} conversation={conversation} marks={bookmarks.phase === 'ready' ? bookmarks.value : []} access={access} branches={branches} />
      {liveState === 'live' ? null : (
        <p class="notice" role="status">
          <span class="spinner" aria-hidden="true" />
          {liveState === 'connecting' ? 'Connecting…' : 'Reconnecting… nothing is lost; missed events will follow.'}
        </p>
      )}
      <Scroller feed={feed} conversation={conversation} at={target}>
        {shown.length === 0 ? (
          <Empty title="No messages yet">
            <p>Ask something. A risky tool call waits here until someone approves it.</p>
          </Empty>
        ) : (
          <Windowed items={shown} keyOf={(message) => message.id} row={row} mustShow={target} />
        )}
        {forkBefore.get('') === undefined ? null : <Siblings fork={forkBefore.get('')!} what="Continuation" choose={choose} />}
        <TurnState conversation={conversation} answer={mayWrite ? actions.regenerate : null} />
      </Scroller>
      <Composer feed={feed} conversation={conversation} turn={turn} access={access} />
      {mayWrite && access === 'owner' ? <Picker session={conversation.session} saved={(session) => feed.session(session)} /> : null}
    </section>
  )
}

/** Escape stops the turn that runs, if it has nothing to close. */
function useStopKey(stop: (() => void) | null): void {
  const now = useRef(stop)
  now.current = stop
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      if (event.key !== 'Escape' || event.isComposing || now.current === null || isBehind()) return
      const target = event.target as Element
      if (isTyping(target) && target.closest('.composer') === null) return
      event.preventDefault()
      now.current()
    }
    // Before a menu that is open closes, which then is why the key was pressed.
    window.addEventListener('keydown', pressed, true)
    return () => window.removeEventListener('keydown', pressed, true)
  }, [])
}

/** Show another continuation, and keep the focus where it was. isOff: the service would refuse it now. */
function useChoice({ feed, conversation, isOff }: { feed: SessionFeed; conversation: Conversation; isOff: boolean }): Choose | null {
  const switchTo = useSwitch({ feed, conversation })
  const switchNow = useRef(switchTo)
  switchNow.current = switchTo
  const wanted = useRef<{ selector: string; label: string; step: number } | null>(null)
  // The rows are drawn again more than once until the other messages are there. After that the focus is the user's.
  useEffect(() => {
    const group = wanted.current === null ? null : document.querySelector(wanted.current.selector)
    if (group === null || wanted.current === null || group.contains(document.activeElement)) return
    if (group.getAttribute('aria-label')?.endsWith(wanted.current.label) === true) group.querySelector<HTMLElement>(`[data-step="${wanted.current.step}"]`)?.focus()
  })
  useEffect(() => {
    const forget = (): void => {
      wanted.current = null
    }
    window.addEventListener('keydown', forget, true)
    window.addEventListener('pointerdown', forget, true)
    return () => {
      window.removeEventListener('keydown', forget, true)
      window.removeEventListener('pointerdown', forget, true)
    }
  }, [])
  return useMemo(
    () =>
      isOff
        ? null
        : ({ after, branches, at }, step) => {
            const branch = branches[at + step]
            if (branch === undefined) return
            wanted.current = { selector: `.siblings[data-fork="${CSS.escape(after ?? '')}"]`, label: `${at + step + 1} of ${branches.length}`, step }
            void switchNow.current(branch)
          },
    [isOff],
  )
}

function isWritable({ session }: Conversation): boolean {
  // A subagent's session takes no messages; one from a service of an earlier version does not say whose it is.
  return (session.status === 'ACTIVE' || session.status === 'CREATED') && (session.parent_session_id ?? null) === null
}

/** From the end, where it nearly always is; queued messages may follow. */
function isStreaming({ messages }: Conversation): boolean {
  return messages.findLast(({ status }) => status === 'streaming') !== undefined
}

/** The state of the turn while no message shows it. */
function TurnState({ conversation, answer }: { conversation: Conversation; answer: MessageActions['regenerate'] | null }) {
  const turn = openTurn(conversation)
  const last = conversation.messages.at(-1)
  if (turn === null) {
    const ended = last === undefined || last.turn_id === null ? undefined : conversation.turns[last.turn_id]
    // A streaming message shows it itself.
    if (last !== undefined && last.status === ended?.status && last.role !== 'user') return null
    // The last message has no answer: as in a fork that ends with it.
    const again =
      last?.role === 'user' && answer !== null ? (
        <button type="button" onClick={() => answer(last)}>
          {ended?.status === 'failed' ? 'Try again' : 'Answer it'}
        </button>
      ) : null
    if (ended?.status === 'failed' && ended.error !== null) {
      return (
        <p class="turn-state problem" role="alert">
          {ended.error.detail} <code>{ended.error.code}</code> {again}
        </p>
      )
    }
    if (ended?.status === 'cancelled') return <p class="turn-state">Stopped. {again}</p>
    return again === null ? null : <p class="turn-state">This message has no answer. {again}</p>
  }
  if (isStreaming(conversation)) return null
  // What is written last waits, whatever is done for an earlier message.
  const isQueued = last?.role === 'user' && last.turn_id !== null && last.turn_id !== turn.id && conversation.turns[last.turn_id]?.status === 'queued'
  if (isQueued) return <p class="turn-state" role="status">Queued. It is answered after the message before it{turn.status.startsWith('waiting') ? ', which waits for somebody' : ''}.</p>
  const inTurn = { queued: 'Queued', running: 'Working', waiting_approval: 'Waiting for an approval', waiting_input: 'Waiting for an answer' }[turn.status as 'queued'] ?? turn.status
  const words = turn.waits ? 'Much is going on; waiting for a place' : inTurn
  return (
    <p class="turn-state" role="status">
      {turn.status.startsWith('waiting') ? null : <span class="spinner" aria-hidden="true" />}
      {words}…
    </p>
  )
}

/** Calls whose results a content filter refused. The set stays identical until it grows, so messages do not re-render. */
function useLeftOut(messages: readonly MessageView[]): ReadonlySet<string> {
  const calls = messages.flatMap(({ tool_call_id, left_out }) => (left_out === null || tool_call_id === null ? [] : [tool_call_id]))
  return useMemo(() => new Set(calls), [calls.join('\n')])
}

/** The message in which a message is shown: a result of a tool is in the card of its call. */
function shownAs(id: string, messages: readonly MessageView[]): string {
  const wanted = messages.find((message) => message.id === id)
  if (wanted?.role !== 'tool') return id
  return messages.find(({ tool_calls }) => tool_calls.some((call) => call.id === wanted.tool_call_id))?.id ?? id
}

/** The messages without tool messages whose results are already shown in their call's card. */
function withoutAnswered(messages: readonly MessageView[]): MessageView[] {
  const calls = new Set(messages.flatMap((message) => message.tool_calls.map((call) => call.id)))
  return messages.filter(
    (message) => !(message.role === 'tool' && message.tool_call_id != null && calls.has(message.tool_call_id)),
  )
}

function Scroller({ feed, conversation, at, children }: { feed: SessionFeed; conversation: Conversation; at: string | null; children: preact.ComponentChildren }) {
  const { say } = useParley()
  const act = useAction()
  const box = useRef<HTMLDivElement>(null)
  const reached = useRef<string | null>(null)
  const inner = useRef<HTMLDivElement>(null)
  const sticks = useRef(at === null)
  const [isAway, setAway] = useState(false)
  const isLoading = useRef(false)

  const toEnd = (): void => {
    const element = box.current
    if (element !== null) element.scrollTop = element.scrollHeight
  }
  useLayoutEffect(toEnd, [])
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      if (sticks.current) toEnd()
    })
    if (inner.current !== null) observer.observe(inner.current)
    if (box.current !== null) observer.observe(box.current)
    return () => observer.disconnect()
  }, [])
  // Older messages are inserted above, and the view must not move. The browser ensures that, except at the very top.
  const oldest = conversation.messages[0]?.id
  const heightBefore = useRef(0)
  useLayoutEffect(() => {
    const element = box.current
    if (element === null) return
    const added = element.scrollHeight - heightBefore.current
    if (heightBefore.current > 0 && added > 0 && element.scrollTop < added / 2) element.scrollTop += added
    heightBefore.current = 0
  }, [oldest])
  // Scroll to the user's own messages.
  const lastUser = conversation.messages.findLast((message) => message.role === 'user')?.id
  useEffect(() => {
    if (at !== null) return
    sticks.current = true
    toEnd()
  }, [lastUser])

  const older = async (): Promise<void> => {
    if (isLoading.current || !conversation.hasOlder) return
    isLoading.current = true
    heightBefore.current = box.current?.scrollHeight ?? 0
    await act(() => feed.older())
    isLoading.current = false
  }
  useEffect(() => {
    if (at === null || at === reached.current) return
    sticks.current = false
    const target = document.getElementById(`m-${at}`)
    if (target === null && conversation.hasOlder) return void older()
    reached.current = at
    if (target === null) return say('That message is not on the branch that is shown.')
    target.scrollIntoView({ block: 'center' })
  }, [at, conversation.messages.length])

  return (
    <div class="scroll-frame">
      <div
        ref={box}
        class="scroller"
        data-scroller
        tabIndex={0}
        role="log"
        aria-label="Messages"
        aria-busy={isStreaming(conversation)}
        onScroll={() => {
          const element = box.current
          if (element === null) return
          const isNear = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END_PX
          sticks.current = isNear
          setAway(!isNear)
          if (element.scrollTop < 1200) void older()
        }}
      >
        <div ref={inner} class="column">
          {conversation.hasOlder ? (
            <button type="button" class="quiet older" onClick={() => void older()}>
              Earlier messages
            </button>
          ) : null}
          {children}
        </div>
      </div>
      {isAway ? (
        <button
          type="button"
          class="to-end"
          onClick={() => {
            sticks.current = true
            toEnd()
          }}
        >
          <Icon name="down" />
          Latest
        </button>
      ) : null}
    </div>
  )
}

