import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { Api, ApiError, type Page, type Session } from './client'

const api = new Api()

function Sessions() {
  const [sessions, setSessions] = useState<Session[] | null>(null)
  const [problem, setProblem] = useState<string | null>(null)
  useEffect(() => {
    api.get<Page<Session>>('/sessions').then(
      (page) => setSessions(page.items),
      (error: unknown) => setProblem(error instanceof ApiError ? error.detail : String(error)),
    )
  }, [])
  if (problem !== null) return <p role="alert">{problem}</p>
  if (sessions === null) return <p>Loading…</p>
  if (sessions.length === 0) return <p>No session yet.</p>
  return (
    <ul>
      {sessions.map((session) => (
        <li key={session.id}>{session.name ?? session.id}</li>
      ))}
    </ul>
  )
}

render(
  <main>
    <h1>Parley</h1>
    <Sessions />
  </main>,
  document.getElementById('app')!,
)
