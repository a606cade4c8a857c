// A conversation without a library: requests with fetch, events with EventSource.
//
// The events of a session are numbered. The browser comes back after a lost connection and names the last number it had,
// so this page sees each event once, in order. It shows texts as text: nothing that a model writes becomes HTML.

const api = `${document.querySelector('meta[name=parley-api]').content}/api/v1`
const list = document.getElementById('messages')
const status = document.getElementById('status')
const shown = new Map() // by message id or tool call id: its element
let seq = 0

async function call(method, path, body, headers = {}) {
  const response = await fetch(api + path, {
    method,
    headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  })
  const told = await response.json()
  if (!response.ok) throw new Error(`${told.code}: ${told.detail}`)
  return told
}

function item(id, kind) {
  if (!shown.has(id)) {
    const element = document.createElement('li')
    element.className = kind
    shown.set(id, element)
    list.append(element)
  }
  return shown.get(id)
}

// What each event changes. Others are of no interest here.
const changes = {
  'message.created': ({ data }) => {
    if (data.role === 'user') item(data.id, 'user').textContent = data.content
  },
  'stream.started': () => (status.textContent = 'thinking'),
  'stream.chunk': ({ message_id, data: { frame } }) => {
    // A new attempt replaces the text of the former one.
    if (frame.type === 'message_start') item(message_id, 'assistant').textContent = ''
    if (frame.type === 'content_delta') item(message_id, 'assistant').append(frame.text)
  },
  'tool_call.pending': ({ data: { approval } }) => (approval ? ask(approval) : undefined),
  'tool_call.approved': ({ data: { approval } }) => (approval ? decided(approval) : undefined),
  'tool_call.rejected': ({ data: { approval } }) => (approval ? decided(approval) : undefined),
  'error.occurred': ({ data }) => (status.textContent = `${data.code}: ${data.detail}`),
  'stream.ended': ({ data }) => (status.textContent = data.status),
}

function ask(approval) {
  status.textContent = 'waits for approval'
  const card = item(approval.tool_call_id, 'call')
  card.textContent = `${approval.tool}\n${JSON.stringify(approval.arguments, null, 2)}\n`
  for (const decision of ['approve', 'reject']) {
    const button = document.createElement('button')
    button.textContent = decision === 'approve' ? 'Approve' : 'Reject'
    button.onclick = () => call('POST', `/approvals/${approval.id}/decision`, { decision }).catch(failed)
    card.append(button)
  }
}

function decided(approval) {
  const card = item(approval.tool_call_id, 'call')
  card.textContent = `${approval.tool}: ${approval.status}`
  status.textContent = approval.status
}

function follow(sessionId) {
  const source = new EventSource(`${api}/sessions/${sessionId}/events?after=${seq}`)
  for (const [type, change] of Object.entries(changes)) {
    source.addEventListener(type, (event) => {
      const told = JSON.parse(event.data)
      seq = told.seq
      change(told)
    })
  }
  // Events are lost for good: the messages are complete.
  source.addEventListener('gap', () => read(sessionId).catch(failed))
  source.onerror = () => {
    // The browser comes back by itself, unless it was refused, as by a service that has just started.
    if (source.readyState !== EventSource.CLOSED) return
    setTimeout(() => follow(sessionId), 1000)
  }
}

async function read(sessionId) {
  const { items } = await call('GET', `/sessions/${sessionId}/messages?limit=200`)
  for (const { id, role, content } of items) {
    if (role === 'user' || role === 'assistant') item(id, role).textContent = content
  }
}

function failed(error) {
  status.textContent = error.message
}

async function session() {
  // The address bar keeps the session, so that a reload shows it again.
  if (!location.hash) location.hash = (await call('POST', '/sessions', { name: 'A plain page' })).id
  return location.hash.slice(1)
}

let following = location.hash ? (follow(location.hash.slice(1)), true) : false

document.getElementById('form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const field = document.getElementById('text')
  try {
    const id = await session()
    if (!following) follow(id)
    following = true
    // With a key of its own, a message that is sent twice is posted once.
    await call('POST', `/sessions/${id}/messages`, { content: field.value }, { 'idempotency-key': crypto.randomUUID() })
    field.value = ''
  } catch (error) {
    failed(error)
  }
})
