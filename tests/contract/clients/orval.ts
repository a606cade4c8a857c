// orval's functions over fetch.

import {
  createSession,
  decideApproval,
  deleteSession,
  exportSession,
  getSession,
  getTurn,
  listApprovals,
  listMessages,
  postMessage,
  updateSession,
} from './generated/orval/api'
import { BASE_URL, CONTENT, ENDED, USER, begin, tell, there } from './story'

const plain = globalThis.fetch
globalThis.fetch = (input, init) => {
  const headers = new Headers(init?.headers)
  headers.set('x-dev-user', USER)
  return plain(new URL(String(input), BASE_URL), { ...init, headers })
}

async function main(): Promise<void> {
  const created = await createSession({ config: { max_steps: 3, approval_mode: 'policy' } })
  if (created.status !== 201) throw new Error(created.data.detail)
  const session_id = created.data.id
  const posted = await postMessage(session_id, { content: CONTENT }, { headers: { Prefer: 'wait=30' } })
  if (posted.status !== 200 && posted.status !== 202) throw new Error(posted.data.detail)
  const pending = await listApprovals({ session_id, status: 'pending' })
  if (pending.status !== 200) throw new Error(pending.data.detail)
  const decided = await decideApproval(there(pending.data.items[0], 'the approval').id, { decision: 'approve' })
  if (decided.status !== 200) throw new Error(decided.data.detail)
  let status: string = posted.data.turn.status
  while (!ENDED.includes(status)) {
    const turn = await getTurn(session_id, posted.data.turn.id)
    if (turn.status !== 200) throw new Error(turn.data.detail)
    status = turn.data.status
  }
  const messages = await listMessages(session_id)
  if (messages.status !== 200) throw new Error(messages.data.detail)
  const patched = await updateSession(session_id, { config: { approval_mode: 'manual' } })
  if (patched.status !== 200) throw new Error(patched.data.detail)
  const exported = await exportSession(session_id, { format: 'pdf' })
  if (exported.status !== 200) throw new Error('no file')
  const deleted = await deleteSession(session_id)
  const refused = await getSession(session_id)
  if (refused.status !== 404) throw new Error('it is still there')
  tell({
    created: created.status,
    posted: posted.status,
    waits: posted.data.turn.status,
    code: posted.data.code,
    approved: decided.data.status,
    ended: status,
    roles: messages.data.items.map((message) => message.role),
    steps: patched.data.config.max_steps,
    mode: patched.data.config.approval_mode,
    exported: await begin(exported.data),
    deleted: deleted.status,
    refused: refused.data.code,
  })
}

void main()
