import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks'
import { openTurn, type Bookmark, type Conversation, type MessageView, type PostedTurn, type Session, type SessionFeed } from '../../client'
import { Empty, Failed, Icon, Loading } from '../bits'
import { useAction, useLoaded, useLiveState, useParley } from '../context'
import { go, link } from '../router'
import { Composer } from './composer'
import { authorName, isShared } from './messages/authors'
import { MessageRow, type MessageActions } from './messages/message'
import { Windowed } from './messages/windowed'
import { SessionHeader } from './session/session-header'
import { useFeed } from './use-feed'

const NEAR_END_PX = 80

export function ConversationPage({ sessionId, at }: { sessionId: string; at: string | null }) {
  const [feed, state] = useFeed(sessionId)
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

function Shown({ feed, conversation, at }: { feed: SessionFeed; conversation: Conversation; at: string | null }) {
  const { api, me, say, touchSessions } = useParley()
  const act = useAction()
  const liveState = useLiveState()
  const path = `/sessions/${encodeURIComponent(feed.sessionId)}`
  const turn = openTurn(conversation)
  const [bookmarks, reloadBookmarks] = useLoaded(() => api.all<Bookmark>(`${path}/bookmarks`), [api, path])
  const marks = useMemo(
    () => new Map(bookmarks.phase === 'ready' ? bookmarks.value.map((mark) => [mark.message_id, mark]) : []),
    [bookmarks],
  )
  const marksNow = useRef(marks)
  marksNow.current = marks

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
        }),
      regenerate: (message) =>
        void act(async () => {
          const posted = await api.post<PostedTurn>(`${path}/messages/${message.id}/regenerate`, {})
          await feed.reload()
          feed.posted(posted)
        }),
      fork: (message) =>
        void act(async () => {
          const made = await api.post<Session>(`${path}/fork`, { message_id: message.id })
          touchSessions()
          say('Forked into a session of its own.')
          go('sessions', made.id)
        }),
    }),
    [api, feed, path],
  )

  const shown = useMemo(() => withoutAnswered(conversation.messages), [conversation.messages])
  const leftOut = useLeftOut(conversation.messages)
  const myName = me?.name ?? null
  const hasOthers = isShared(conversation.messages, myName)
  const row = useCallback(
    (message: MessageView) => (
      <MessageRow
        key={message.id}
        message={message}
        author={authorName(message.author, myName, hasOthers)}
        approvals={conversation.approvals}
        leftOut={leftOut}
        turn={message.turn_id === null ? undefined : conversation.turns[message.turn_id]}
        isMarked={marks.has(message.id)}
        mayWrite={conversation.session.status === 'ACTIVE'}
        actions={actions}
      />
    ),
    [conversation.approvals, conversation.turns, conversation.session.status, leftOut, myName, hasOthers, marks, actions],
  )
  useEffect(touchSessions, [conversation.session.status, turn === null])

  return (
    <section class="conversation" aria-label="Conversation">
      <SessionHeader feed={feed} conversation={conversation} marks={bookmarks.phase === 'ready' ? bookmarks.value : []} />
      {liveState === 'live' ? null : (
        <p class="notice" role="status">
          <span class="spinner" aria-hidden="true" />
          {liveState === 'connecting' ? 'Connecting…' : 'Reconnecting… nothing is lost; missed events will follow.'}
        </p>
      )}
      <Scroller feed={feed} conversation={conversation} at={at}>
        {shown.length === 0 ? (
          <Empty title="No messages yet">
            <p>Ask something. A risky tool call waits here until someone approves it.</p>
          </Empty>
        ) : (
          <Windowed items={shown} keyOf={(message) => message.id} row={row} />
        )}
        <TurnState conversation={conversation} />
      </Scroller>
      <Composer feed={feed} conversation={conversation} turn={turn} />
    </section>
  )
}

/** From the end, where it nearly always is; queued messages may follow. */
function isStreaming({ messages }: Conversation): boolean {
  return messages.findLast(({ status }) => status === 'streaming') !== undefined
}

/** The state of the turn while no message shows it. */
function TurnState({ conversation }: { conversation: Conversation }) {
  const turn = openTurn(conversation)
  const last = conversation.messages.at(-1)
  if (turn === null) {
    const ended = last === undefined || last.turn_id === null ? undefined : conversation.turns[last.turn_id]
    // A streaming message shows it itself.
    if (last?.status === ended?.status) return null
    if (ended?.status === 'failed' && ended.error !== null) {
      return (
        <p class="turn-state problem" role="alert">
          {ended.error.detail} <code>{ended.error.code}</code>
        </p>
      )
    }
    if (ended?.status === 'cancelled') return <p class="turn-state">Stopped.</p>
    return null
  }
  if (isStreaming(conversation)) return null
  const inTurn = { queued: 'Queued', running: 'Working', waiting_approval: 'Waiting for an approval' }[turn.status as 'queued'] ?? turn.status
  const words = turn.waits ? 'Much is going on; waiting for a place' : inTurn
  return (
    <p class="turn-state" role="status">
      {turn.status === 'waiting_approval' ? null : <span class="spinner" aria-hidden="true" />}
      {words}…
    </p>
  )
}

/** Calls whose results a content filter refused. The set stays identical until it grows, so messages do not re-render. */
function useLeftOut(messages: readonly MessageView[]): ReadonlySet<string> {
  const calls = messages.flatMap(({ tool_call_id, left_out }) => (left_out === null || tool_call_id === null ? [] : [tool_call_id]))
  return useMemo(() => new Set(calls), [calls.join('\n')])
}

/** The messages without tool messages whose results are already shown in their call's card. */
function withoutAnswered(messages: readonly MessageView[]): MessageView[] {
  const calls = new Set(messages.flatMap((message) => message.tool_calls.map((call) => call.id)))
  return messages.filter(
    (message) => !(message.role === 'tool' && message.tool_call_id != null && calls.has(message.tool_call_id)),
  )
}

function Scroller({ feed, conversation, at, children }: { feed: SessionFeed; conversation: Conversation; at: string | null; children: preact.ComponentChildren }) {
  const act = useAction()
  const box = useRef<HTMLDivElement>(null)
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
    if (at === null) return undefined
    const target = document.getElementById(`m-${at}`)
    if (target !== null) target.scrollIntoView({ block: 'center' })
    else if (conversation.hasOlder) void older()
    return undefined
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

