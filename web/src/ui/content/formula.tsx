// A formula: as it is written until what sets it is there, and wherever it cannot be set.

import { h, type ComponentChildren } from 'preact'
import { useMemo } from 'preact/hooks'
import { memo } from '../memo'
import { partOf, usePart } from './part'
import type { Node } from './formulas'

const setting = partOf(() => import('./formulas'))
const LONGEST = 4_000

/** tex: without what stands around it. */
export const Formula = memo(function Formula({ raw, tex, isBlock }: { raw: string; tex: string; isBlock: boolean }) {
  const isWanted = tex.length <= LONGEST
  const part = usePart(setting, isWanted)
  const made = useMemo(() => (isWanted ? (part?.mathOf(tex, isBlock) ?? null) : null), [part, tex, isBlock, isWanted])
  if (made === null) return <code>{raw.trim()}</code>
  if (!isBlock) return <>{drawn(made, 0)}</>
  return (
    <span class="formula" tabIndex={0} role="group" aria-label="Formula">
      {drawn(made, 0)}
    </span>
  )
})

function drawn(node: Node, key: number): ComponentChildren {
  if (typeof node === 'string') return node
  return h(node.tag, { key, ...node.attributes, ...(Object.keys(node.style).length === 0 ? {} : { style: node.style }) }, node.children.map(drawn))
}
