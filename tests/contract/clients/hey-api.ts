// @hey-api/openapi-ts: the turn is followed by its own stream, whose events are typed.

import { client } from './generated/hey-api/client.gen'
import {
  createSession,
  decideApproval,
  deleteSession,
  exportSession,
  getSession,
  listApprovals,
  listMessages,
  postMessage,
  streamTurn,
  updateSession,
} from './generated/hey-api/sdk.gen'
import { BASE_URL, CONTENT, USER, begin, tell, there } from './story'

async function main(): Promise<void> {
  client.setConfig({ baseUrl: BASE_URL, headers: { 'x-dev-user': USER } })
  const created = await createSession({ body: { config: { max_steps: 3, approval_mode: 'policy' } } })
  const session_id = there(created.data, 'the session').id
  const path = { session_id }
  const posted = await postMessage({ path, headers: { Prefer: 'wait=30' }, body: { content: CONTENT } })
  const waiting = there(posted.data, 'the turn')
  const pending = await listApprovals({ query: { session_id, status: 'pending' } })
  const approval_id = there(there(pending.data, 'the page').items[0], 'the approval').id
  const decided = await decideApproval({ path: { approval_id }, body: { decision: 'approve' } })
  const events = await streamTurn({ path: { session_id, turn_id: waiting.turn.id }, sseMaxRetryAttempts: 1 })
  let ended = ''
  for await (const event of events.stream) {
    if (event && event.event === 'end') {
      ended = event.status
      break
    }
  }
  const messages = await listMessages({ path })
  const patched = await updateSession({ path, body: { config: { approval_mode: 'manual' } } })
  const config = there(patched.data, 'the session').config
  const exported = await exportSession({ path, query: { format: 'pdf' } })
  const deleted = await deleteSession({ path })
  const refused = await getSession({ path })
  tell({
    created: there(created.response, 'the answer').status,
    posted: there(posted.response, 'the answer').status,
    waits: waiting.turn.status,
    code: waiting.code,
    approved: there(decided.data, 'the decision').status,
    ended,
    roles: there(messages.data, 'the page').items.map((message) => message.role),
    steps: config.max_steps,
    mode: config.approval_mode,
    exported: await begin(there(exported.data, 'the file')),
    deleted: there(deleted.response, 'the answer').status,
    refused: there(refused.error, 'the problem').code,
  })
}

void main()
