// The author of a user's message, from the reader's point of view.

import type { MessageView } from '../../../client'

type Written = Pick<MessageView, 'role' | 'author'>

/** Whether users other than the reader write here. me: null while the reader is unknown. */
export function isShared(messages: readonly Written[], me: string | null): boolean {
  const authors = new Set<string>()
  for (const { role, author } of messages) if (role === 'user' && author !== null) authors.add(author)
  return authors.size > 1 || (me !== null && authors.size === 1 && !authors.has(me))
}

/** author: null in messages of an earlier version of the service. */
export function authorName(author: string | null, me: string | null, isSharedSession: boolean): string {
  if (!isSharedSession) return 'You'
  if (author === null) return 'A participant'
  return author === me ? `${author} (you)` : author
}
