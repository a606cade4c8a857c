// Keys with which a request that is sent again is done once.

/** A new one. */
export function randomKey(): string {
  // randomUUID does not exist on pages without TLS.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** The key of a request that may have been sent before: the same for the same. */
export function keyOf(known: Map<string, string>, request: string): string {
  const key = known.get(request) ?? randomKey()
  known.set(request, key)
  return key
}
