// How far a vote is: only those who approve the same arguments add up, as the service counts them.

import type { Approval } from '../../client'

/** The most people who approve the same arguments. */
export function approvalsSoFar({ arguments: asked, votes }: Approval): number {
  const counts = new Map<string, number>()
  for (const vote of votes) {
    if (vote.decision !== 'approve') continue
    const what = canonical(vote.arguments ?? asked)
    counts.set(what, (counts.get(what) ?? 0) + 1)
  }
  return Math.max(0, ...counts.values())
}

/** The same text for the same value, in whatever order its keys stand. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([one], [other]) => (one < other ? -1 : 1)))
      : inner,
  )
}
