// A page of somebody else, compiled strictly against the package's types.

import { Api, ApiError, Live, SessionFeed, type Approval, type FeedState, type Page, type PostedTurn, type Session } from '@parley/client'

const api = new Api({ baseUrl: 'https://parley.example', headers: () => ({ authorization: 'Bearer x' }) })
const live = new Live(api)

export async function ask(content: string): Promise<string | undefined> {
  const session = await api.post<Session>('/sessions', { name: 'Typed' })
  const feed = new SessionFeed(api, live, session.id)
  const stop = feed.subscribe((state: FeedState) => {
    if (state.phase === 'failed') console.error(state.error.code)
  })
  feed.posted(await api.post<PostedTurn>(`/sessions/${session.id}/messages`, { content }))
  const approvals: Page<Approval> = await api.get('/approvals', { status: 'pending' })
  stop()
  return approvals.items[0]?.tool
}

export function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'SESSION_NOT_FOUND'
}

// @ts-expect-error A session has no such field.
export const wrong = (session: Session): string => session.colour
