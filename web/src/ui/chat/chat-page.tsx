import { Empty } from '../bits'
import { ConversationPage } from './conversation-page'
import { SessionList } from './session/session-list'

export function ChatPage({ sessionId, at }: { sessionId: string | null; at: string | null }) {
  return (
    <div class={`chat ${sessionId === null ? 'at-list' : 'at-session'}`}>
      <SessionList current={sessionId} />
      {sessionId === null ? (
        <div class="conversation blank">
          <Empty title="Choose a session, or start a new one" />
        </div>
      ) : (
        <ConversationPage key={sessionId} sessionId={sessionId} at={at} />
      )}
    </div>
  )
}
