// Which rows of a tree are shown, and where a key leads: the tree pattern of the ARIA practices, apart from the page.

import type { Row } from './rows'

export interface Shown {
  row: Row
  level: number
  /** Its place among its siblings, and how many there are. */
  place: number
  count: number
  parent: string | null
  isOpen: boolean
}

/** The rows that are not below a folded one, from top to bottom. */
export function shownOf(root: Row, folded: ReadonlySet<string>): Shown[] {
  const found: Shown[] = []
  const walk = (rows: readonly Row[], level: number, parent: string | null): void => {
    rows.forEach((row, index) => {
      const isOpen = row.children.length > 0 && !folded.has(row.id)
      found.push({ row, level, place: index + 1, count: rows.length, parent, isOpen })
      if (isOpen) walk(row.children, level + 1, row.id)
    })
  }
  walk([root], 1, null)
  return found
}

export function allOf(root: Row): Row[] {
  return [root, ...root.children.flatMap(allOf)]
}

/** The rows above one, from the root on; null: there is no such row. */
export function above(root: Row, id: string): string[] | null {
  if (root.id === id) return []
  for (const child of root.children) {
    const found = above(child, id)
    if (found !== null) return [root.id, ...found]
  }
  return null
}

export type Step = { to: string } | { fold: string } | { unfold: string } | null

/** What a key does at a row. null: nothing. */
export function keyed(shown: readonly Shown[], at: string, key: string): Step {
  const index = shown.findIndex(({ row }) => row.id === at)
  const current = shown[index]
  if (current === undefined) return null
  const to = (place: number): Step => (shown[place] === undefined ? null : { to: shown[place].row.id })
  switch (key) {
    case 'ArrowDown':
      return to(index + 1)
    case 'ArrowUp':
      return to(index - 1)
    case 'Home':
      return to(0)
    case 'End':
      return to(shown.length - 1)
    case 'ArrowRight':
      if (current.row.children.length === 0) return null
      return current.isOpen ? to(index + 1) : { unfold: at }
    case 'ArrowLeft':
      if (current.isOpen) return { fold: at }
      return current.parent === null ? null : { to: current.parent }
    default:
      return null
  }
}
