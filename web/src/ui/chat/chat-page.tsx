import { ConversationPage } from './conversation-page'
import { StartPage } from '../start/start-page'
import { SessionList } from './session/session-list'

export function ChatPage({ sessionId, at }: { sessionId: string | null; at: string | null }) {
  return (
    <div class={`chat ${sessionId === null ? 'at-list' : 'at-session'}`}>
      <SessionList current={sessionId} />
      {sessionId === null ? (
        <StartPage />
      ) : (
        <ConversationPage key={sessionId} sessionId={sessionId} at={at} />
      )}
    </div>
  )
}
