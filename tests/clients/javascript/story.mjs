// The built package under Node.js against a running service: connect, send, stream, approve, fail.
// Arguments: the service's address, the address that the tool calls. Prints one line of JSON.

import { Api, ApiError, Live, SessionFeed, isOver } from '@parley/client'

const [baseUrl, target] = process.argv.slice(2)
const api = new Api({ baseUrl, headers: () => ({ 'x-dev-user': 'olga;approver' }) })
const live = new Live(api)
live.start()

const session = await api.post('/sessions', { name: 'From Node' })
const feed = new SessionFeed(api, live, session.id)
const seen = new Set()

/** The conversation, once it is as wanted. */
function until(wanted) {
  return new Promise((resolve, reject) => {
    const look = (state) => {
      if (state.phase === 'failed') reject(state.error)
      if (state.phase !== 'ready') return
      const last = state.conversation.messages.at(-1)
      if (last?.role === 'assistant' && last.status === 'streaming' && last.content) seen.add(last.content)
      if (!wanted(state.conversation)) return
      stop()
      resolve(state.conversation)
    }
    const stop = feed.subscribe(look)
    look(feed.current)
  })
}

async function say(content) {
  const posted = await api.post(`/sessions/${session.id}/messages`, { content }, { 'idempotency-key': crypto.randomUUID() })
  feed.posted(posted)
  return posted.turn.id
}

feed.start()
await until(() => true)
const first = await say('#script {"tokens": 60, "token_ms": 20}')
const answered = await until(({ turns, messages }) => isOver(turns[first]?.status ?? '') && messages.every(({ incomplete }) => !incomplete))
const shown = answered.messages.at(-1).content
const [stored] = await api.all(`/sessions/${session.id}/messages`, { role: 'assistant' })

const call = { name: 'http_request', arguments: { method: 'POST', url: target, body: '{"n": 1.0}' } }
const second = await say(`#script ${JSON.stringify({ tool_calls: [[call]], content: 'Sent.' })}`)
const waiting = await until(({ turns }) => turns[second]?.status === 'waiting_approval')
const [approval] = Object.values(waiting.approvals)
await api.post(`/approvals/${approval.id}/decision`, { decision: 'approve', comment: 'from Node' })
const over = await until(({ turns }) => isOver(turns[second]?.status ?? ''))

const refused = await api.get('/sessions/nobodys').then(() => null, (error) => error)
await feed.close()
await live.stop()

console.log(
  JSON.stringify({
    isStored: shown === stored.content,
    sawItGrow: seen.size > 2,
    tool: approval.tool,
    status: over.turns[second].status,
    decided: over.approvals[approval.tool_call_id].status,
    refused: [refused instanceof ApiError, refused.status, refused.code, typeof refused.problem.correlation_id],
  }),
)
process.exit(0)
