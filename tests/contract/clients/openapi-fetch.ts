// openapi-typescript's types, with openapi-fetch.

import createClient from 'openapi-fetch'
import type { paths } from './generated/openapi-typescript/schema'
import { BASE_URL, CONTENT, ENDED, USER, begin, tell, there } from './story'

async function main(): Promise<void> {
  const client = createClient<paths>({ baseUrl: BASE_URL, headers: { 'x-dev-user': USER } })
  const created = await client.POST('/api/v1/sessions', { body: { config: { max_steps: 3, approval_mode: 'policy' } } })
  const session_id = there(created.data, 'the session').id
  const path = { session_id }
  const posted = await client.POST('/api/v1/sessions/{session_id}/messages', {
    params: { path, header: { Prefer: 'wait=30' } },
    body: { content: CONTENT },
  })
  const waiting = there(posted.data, 'the turn')
  const pending = await client.GET('/api/v1/approvals', { params: { query: { session_id, status: 'pending' } } })
  const approval_id = there(there(pending.data, 'the page').items[0], 'the approval').id
  const decided = await client.POST('/api/v1/approvals/{approval_id}/decision', {
    params: { path: { approval_id } },
    body: { decision: 'approve' },
  })
  let status: string = waiting.turn.status
  while (!ENDED.includes(status)) {
    const turn = await client.GET('/api/v1/sessions/{session_id}/turns/{turn_id}', {
      params: { path: { session_id, turn_id: waiting.turn.id } },
    })
    status = there(turn.data, 'the turn').status
  }
  const messages = await client.GET('/api/v1/sessions/{session_id}/messages', { params: { path } })
  const patched = await client.PATCH('/api/v1/sessions/{session_id}', {
    params: { path },
    body: { config: { approval_mode: 'manual' } },
  })
  const config = there(patched.data, 'the session').config
  const exported = await client.GET('/api/v1/sessions/{session_id}/export', {
    params: { path, query: { format: 'pdf' } },
    parseAs: 'blob',
  })
  const deleted = await client.DELETE('/api/v1/sessions/{session_id}', { params: { path } })
  const refused = await client.GET('/api/v1/sessions/{session_id}', { params: { path } })
  tell({
    created: created.response.status,
    posted: posted.response.status,
    waits: waiting.turn.status,
    code: waiting.code,
    approved: there(decided.data, 'the decision').status,
    ended: status,
    roles: there(messages.data, 'the page').items.map((message) => message.role),
    steps: config.max_steps,
    mode: config.approval_mode,
    exported: await begin(exported.data as unknown as Blob),
    deleted: deleted.response.status,
    refused: there(refused.error, 'the problem').code,
  })
}

void main()
