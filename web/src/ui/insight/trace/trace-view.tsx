// The tree of a turn beside the details of one of its rows. The row is in the address, which can be sent.

import { useEffect, useRef, useState } from 'preact/hooks'
import { Badge, Icon } from '../../bits'
import { put } from '../../router'
import { RowDetails } from './details'
import type { Row, Trace } from './rows'
import { scaleOf, type Scale } from './scale'
import { above, allOf, keyed, shownOf, type Shown } from './tree'
import { noteOf, short, toneOf } from './words'
import './trace.css'

/** With more rows than this, agents below are folded at first. */
const MANY = 60
/** In the picture's own units. */
const WIDE = 1000
const HIGH = 16
/** States that need no badge. */
const USUAL = new Set(['completed', 'approved', 'answered'])

interface Props {
  trace: Trace
  /** Of the turn's page. */
  address: readonly string[]
  rowId: string | null
}

export function TraceView({ trace: { root, isCoarse }, address, rowId }: Props) {
  const rows = allOf(root)
  const [folded, setFolded] = useState<ReadonlySet<string>>(() => new Set(rows.length > MANY ? agentsOf(root) : []))
  const tree = useRef<HTMLDivElement>(null)
  const details = useRef<HTMLElement>(null)
  const way = rowId === null ? null : above(root, rowId)
  const chosen = way === null ? root.id : (rowId ?? root.id)
  // Whoever follows an address sees its row, however deep.
  useEffect(() => {
    if (way !== null && way.some((id) => folded.has(id))) setFolded(new Set([...folded].filter((id) => !way.includes(id))))
  }, [chosen])
  const shown = shownOf(root, folded)
  const visible = shown.some(({ row }) => row.id === chosen) ? chosen : root.id
  const scale = scaleOf(root, rows)
  const choose = (id: string): void => put(...address, id)
  const focus = (id: string): void => {
    tree.current?.querySelector<HTMLElement>(`[data-row="${CSS.escape(id)}"]`)?.focus()
    choose(id)
  }
  const fold = (id: string, isFolded: boolean): void => {
    const ids = new Set(folded)
    if (isFolded) ids.add(id)
    else ids.delete(id)
    setFolded(ids)
    // What is chosen stays in sight.
    if (isFolded && (above(root, chosen) ?? []).includes(id)) choose(id)
  }
  const pressed = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault()
      details.current?.focus()
      return
    }
    // The row with the focus: keys may come faster than the address changes.
    const step = keyed(shown, (event.target as HTMLElement).dataset['row'] ?? visible, event.key)
    if (step === null) return
    event.preventDefault()
    if ('to' in step) focus(step.to)
    else if ('fold' in step) fold(step.fold, true)
    else fold(step.unfold, false)
  }
  const found = rows.find(({ id }) => id === visible) ?? root
  return (
    <div class="trace">
      <section class="trace-tree" aria-label="What happened">
        <header class="page-head">
          <h2>Timeline</h2>
          <span class="legend" aria-hidden="true">
            <span class="one">model</span>
            <span class="two">tool</span>
            <span class="three">agent</span>
            <span class="wait">waiting</span>
          </span>
          <button type="button" class="quiet" onClick={() => setFolded(folded.size > 0 ? new Set() : new Set(rows.filter((row) => row.children.length > 0 && row !== root).map(({ id }) => id)))}>
            {folded.size > 0 ? 'Unfold all' : 'Fold all'}
          </button>
        </header>
        {rowId !== null && way === null ? <p class="hint">The row that the address names is not here (any more).</p> : null}
        <div class="timeline" role="tree" aria-label="Timeline" ref={tree} onKeyDown={pressed}>
          {shown.map((one) => (
            <TreeRow key={one.row.id} shown={one} scale={scale} isChosen={one.row.id === visible} choose={() => focus(one.row.id)} fold={(isFolded) => fold(one.row.id, isFolded)} />
          ))}
        </div>
        <p class="hint trace-axis">
          <span>0</span>
          <span>{short(root.to - root.from)}</span>
        </p>
        {scale.breaks.length > 0 ? <p class="hint">The shaded parts are shortened: they took far longer than the rest.</p> : null}
        {isCoarse ? <p class="hint">Some events are no longer kept, so those times are of the stored messages.</p> : null}
      </section>
      <section class="trace-details" aria-label={`Details of ${found.name}`} tabIndex={-1} ref={details}>
        <RowDetails key={found.id} row={found} start={root.from} choose={focus} />
      </section>
    </div>
  )
}

function agentsOf(root: Row): string[] {
  return root.children.flatMap(allOf).filter(({ about }) => about.kind === 'turn').map(({ id }) => id)
}

interface TreeRowProps {
  shown: Shown
  scale: Scale
  isChosen: boolean
  choose: () => void
  fold: (isFolded: boolean) => void
}

function TreeRow({ shown: { row, level, place, count, isOpen }, scale, isChosen, choose, fold }: TreeRowProps) {
  const note = noteOf(row)
  const [left, right] = [scale.place(row.from) * WIDE, scale.place(row.to) * WIDE]
  const took = short(row.to - row.from)
  const element = useRef<HTMLDivElement>(null)
  useEffect(() => {
    if (isChosen) element.current?.scrollIntoView({ block: 'nearest' })
  }, [isChosen])
  return (
    <div
      ref={element}
      role="treeitem"
      class="trace-row"
      data-row={row.id}
      aria-level={level}
      aria-posinset={place}
      aria-setsize={count}
      aria-selected={isChosen}
      {...(row.children.length === 0 ? {} : { 'aria-expanded': isOpen })}
      tabIndex={isChosen ? 0 : -1}
      onClick={choose}
    >
      <span class={`trace-name depth-${Math.min(level, 9)}`}>
        <span
          class={`twist ${row.children.length === 0 ? 'none' : isOpen ? 'open' : ''}`}
          onClick={(event) => {
            if (row.children.length === 0) return
            event.stopPropagation()
            fold(isOpen)
          }}
        >
          <Icon name="down" />
        </span>
        <span class="trace-word">{row.name}</span>
        {row.status === '' ? null : USUAL.has(row.status) ? <span class="hidden">{row.status}</span> : <Badge status={row.status} />}
      </span>
      <svg class="trace-bar" viewBox={`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" aria-hidden="true">
        {scale.breaks.map((part) => (
          <rect key={part.from} class="cut" x={scale.place(part.from) * WIDE} y={0} width={(scale.place(part.to) - scale.place(part.from)) * WIDE} height={HIGH} />
        ))}
        <rect class={toneOf(row)} x={Math.min(left, WIDE - 4)} y={3} width={Math.max(4, right - left)} height={HIGH - 6} />
      </svg>
      <span class="trace-took">{took}</span>
      <span class="trace-note">{note}</span>
    </div>
  )
}
