// A long list with only the part around the view in the document.
//
// Rows are grouped in chunks. A chunk out of view is one empty box of the same height; the browser's scroll anchoring
// keeps the view still while boxes above it become rows again.

import type { ComponentChildren } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'

const CHUNK = 20
const GUESSED_ROW_PX = 110

interface List<T> {
  items: readonly T[]
  keyOf: (item: T) => string
  row: (item: T, index: number) => ComponentChildren
  /** The key of an item that is in the document wherever the view is. */
  mustShow: string | null
}

export function Windowed<T>({ items, keyOf, row, mustShow }: List<T>) {
  // Counted from a fixed item, so that older and newer items do not move the borders of existing chunks.
  const fixed = useRef<string | null>(null)
  let at = fixed.current === null ? -1 : items.findIndex((item) => keyOf(item) === fixed.current)
  if (at < 0 && items[0] !== undefined) {
    at = 0
    fixed.current = keyOf(items[0])
  }
  const rest = Math.max(0, at) % CHUNK
  const chunks: { key: string; from: number; items: readonly T[] }[] = []
  for (let from = rest === 0 ? 0 : rest - CHUNK; from < items.length; from += CHUNK) {
    const part = items.slice(Math.max(0, from), from + CHUNK)
    const anchor = part[0]
    if (anchor !== undefined) chunks.push({ key: keyOf(anchor), from: Math.max(0, from), items: part })
  }
  return (
    <>
      {chunks.map((chunk, place) => (
        <Chunk key={chunk.key} count={chunk.items.length} alwaysShown={place >= chunks.length - 2 || chunk.items.some((item) => keyOf(item) === mustShow)}>
          {() => chunk.items.map((item, index) => row(item, chunk.from + index))}
        </Chunk>
      ))}
    </>
  )
}

function Chunk({ count, alwaysShown, children }: { count: number; alwaysShown: boolean; children: () => ComponentChildren }) {
  const element = useRef<HTMLDivElement>(null)
  const height = useRef(count * GUESSED_ROW_PX)
  const [isNear, setNear] = useState(alwaysShown)
  useEffect(() => {
    const box = element.current
    if (box === null) return undefined
    const observer = new IntersectionObserver(
      (entries) => setNear(entries.some((entry) => entry.isIntersecting)),
      { root: box.closest('[data-scroller]'), rootMargin: '1500px 0px' },
    )
    observer.observe(box)
    return () => observer.disconnect()
  }, [])
  const isShown = isNear || alwaysShown
  useLayoutEffect(() => {
    if (isShown && element.current !== null) height.current = element.current.offsetHeight
  })
  return (
    <div ref={element} class="chunk" style={isShown ? {} : { height: `${height.current}px` }}>
      {isShown ? children() : null}
    </div>
  )
}
