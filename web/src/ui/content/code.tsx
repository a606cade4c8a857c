// A block of code: its language, a button that copies it, and colours.
//
// Invariants: the text that is shown is the text that was written, whatever a grammar makes of it. Colours come after the
// text: while it grows, what is coloured stays, and its rest is plain for a moment. A block of Mermaid stays code: it can be
// drawn only by writing markup, which the page's policy refuses.

import { useEffect, useRef, useState } from 'preact/hooks'
import { Icon } from '../bits'
import { useAction, useParley } from '../context'
import { memo } from '../memo'
import { partOf, usePart } from './part'
import type { Word } from './highlight'

const highlighting = partOf(() => import('./highlight'))

/** A longer block is shown without colours. */
const LONGEST = 20_000
/** A block up to this size is coloured as it is drawn, a longer one afterwards. */
const AT_ONCE = 4_000
const EVERY_MS = 150

interface Coloured {
  text: string
  words: Word[]
}

export const Code = memo(function Code({ text, language }: { text: string; language: string }) {
  const { say } = useParley()
  const act = useAction()
  const name = (language.trim().split(/\s/)[0] ?? '').slice(0, 24)
  const coloured = useColours(text, name.toLowerCase())
  const copy = (): Promise<boolean> =>
    act(async () => {
      await navigator.clipboard.writeText(text)
      say('Copied.')
    })
  return (
    <figure class="code">
      <figcaption>
        <span>{name === '' ? 'Code' : name}</span>
        <button type="button" class="quiet" onClick={() => void copy()}>
          <Icon name="copy" />
          Copy code
        </button>
      </figcaption>
      <pre tabIndex={0}>
        <code>
          {coloured?.words.map(({ kind, text: part }, index) =>
            kind === '' ? part : (
              <span key={index} class={kind}>
                {part}
              </span>
            ),
          )}
          {coloured === null ? text : text.slice(coloured.text.length)}
        </code>
      </pre>
    </figure>
  )
})

/** What of the text is coloured by now: a beginning of it, or null. */
function useColours(text: string, language: string): Coloured | null {
  const isWanted = language !== '' && text.length <= LONGEST
  const part = usePart(highlighting, isWanted)
  const colour = (): Coloured | null => {
    const words = part?.highlighted(text, language) ?? null
    return words === null ? null : { text, words }
  }
  const [coloured, setColoured] = useState<Coloured | null>(() => (isWanted && text.length <= AT_ONCE ? colour() : null))
  const newest = useRef(colour)
  newest.current = colour
  const timer = useRef<number | null>(null)
  useEffect(() => {
    if (!isWanted || part === null || coloured?.text === text || timer.current !== null) return
    // Not at each part of a stream: each would colour all of it.
    timer.current = window.setTimeout(
      () => {
        timer.current = null
        setColoured(newest.current())
      },
      coloured === null ? 0 : EVERY_MS,
    )
  }, [text, language, part, isWanted, coloured])
  useEffect(() => () => window.clearTimeout(timer.current ?? undefined), [])
  return coloured !== null && isWanted && text.startsWith(coloured.text) ? coloured : null
}
