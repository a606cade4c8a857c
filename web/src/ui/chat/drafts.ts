// What somebody has begun to write, kept for this tab over reloads and switches of the session.

const PREFIX = 'parley.draft.'

export function draftOf(sessionId: string): string {
  return sessionStorage.getItem(PREFIX + sessionId) ?? ''
}

export function keepDraft(sessionId: string, text: string): void {
  if (text === '') sessionStorage.removeItem(PREFIX + sessionId)
  else sessionStorage.setItem(PREFIX + sessionId, text)
}

/** Before somebody else uses this tab. */
export function forgetDrafts(): void {
  const kept = Array.from({ length: sessionStorage.length }, (_, index) => sessionStorage.key(index))
  for (const key of kept) if (key?.startsWith(PREFIX) === true) sessionStorage.removeItem(key)
}
