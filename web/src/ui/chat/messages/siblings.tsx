// Other continuations of a conversation, where it forks: other answers to a question, other questions after an answer.

import type { Branch, MessageView } from '../../../client'
import { memo } from '../../memo'

/** The continuations behind one message. */
export interface Fork {
  /** The last message that they share; null: they share none. */
  after: string | null
  /** Branches, oldest first. */
  branches: number[]
  /** Place in `branches` of the one that is shown. */
  at: number
}

/** Where the shown branch could have gone on otherwise. active: the shown branch. */
export function forksOf(branches: readonly Branch[], active: number): Fork[] {
  const parents = new Map(branches.map(({ branch, parent_branch }) => [branch, parent_branch]))
  const path = new Set<number>()
  for (let one: number | null | undefined = active; one != null && !path.has(one); one = parents.get(one)) path.add(one)
  const forks = new Map<string, Fork & { parent: number }>()
  for (const { branch, parent_branch, fork_message_id } of branches) {
    if (parent_branch === null || !path.has(parent_branch)) continue
    const key = `${parent_branch} ${fork_message_id ?? ''}`
    const fork = forks.get(key) ?? { after: fork_message_id, parent: parent_branch, branches: [parent_branch], at: 0 }
    forks.set(key, fork)
    fork.branches.push(branch)
    if (path.has(branch)) fork.at = fork.branches.length - 1
  }
  return [...forks.values()].map(({ after, branches, at }) => ({ after, branches, at }))
}

/** Forks by the message with which the shown continuation begins; '' when it has none yet. */
export function forksByMessage(forks: readonly Fork[], messages: readonly MessageView[], shown: readonly MessageView[], hasOlder: boolean): Map<string, Fork> {
  const found = new Map<string, Fork>()
  if (forks.length === 0) return found
  const places = new Map(messages.map(({ id }, place) => [id, place]))
  const isShown = new Set(shown.map(({ id }) => id))
  for (const fork of forks) {
    const place = fork.after === null ? (hasOlder ? undefined : -1) : places.get(fork.after)
    if (place === undefined) continue
    const next = messages.slice(place + 1).find(({ id }) => isShown.has(id))
    found.set(next?.id ?? '', fork)
  }
  return found
}

export type Choose = (fork: Fork, step: -1 | 1) => void

/** ‹2/3›, by keyboard also with the arrow keys. choose: null while the session cannot be switched. */
export const Siblings = memo(function Siblings({ fork, what, choose }: { fork: Fork; what: string; choose: Choose | null }) {
  const { at, branches, after } = fork
  const place = `${at + 1} of ${branches.length}`
  const step = (by: -1 | 1): void => {
    if (choose !== null && branches[at + by] !== undefined) choose(fork, by)
  }
  return (
    <span
      class="siblings"
      role="group"
      aria-label={`${what} ${place}`}
      data-fork={after ?? ''}
      onKeyDown={(event) => {
        if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return
        event.preventDefault()
        step(event.key === 'ArrowLeft' ? -1 : 1)
      }}
    >
      <button type="button" class="quiet icon" data-step="-1" aria-disabled={choose === null || at === 0} aria-label={`Previous ${what.toLowerCase()}, ${place} is shown`} onClick={() => step(-1)}>
        ‹
      </button>
      <span aria-hidden="true">
        {at + 1}/{branches.length}
      </span>
      <button type="button" class="quiet icon" data-step="1" aria-disabled={choose === null || at === branches.length - 1} aria-label={`Next ${what.toLowerCase()}, ${place} is shown`} onClick={() => step(1)}>
        ›
      </button>
    </span>
  )
})
