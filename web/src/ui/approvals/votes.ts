// The progress of a vote: only approvals of the same arguments count together, as in the service.

import type { Approval } from '../../client'

/** The largest number of people who approve the same arguments. */
export function approvalsSoFar({ arguments: asked, votes }: Approval): number {
  const counts = new Map<string, number>()
  for (const vote of votes) {
    if (vote.decision !== 'approve') continue
    const what = canonical(vote.arguments ?? asked)
    counts.set(what, (counts.get(what) ?? 0) + 1)
  }
  return Math.max(0, ...counts.values())
}

/** The same text for equal values, whatever the order of their keys. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([one], [other]) => (one < other ? -1 : 1)))
      : inner,
  )
}
