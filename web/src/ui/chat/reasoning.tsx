import { useState } from 'preact/hooks'
import { Markdown } from '../markdown'

/** What the model told of its reasoning: open while that is all there is, then closed, unless the reader says otherwise. */
export function Reasoning({ text, isThinking }: { text: string; isThinking: boolean }) {
  const [chosen, setChosen] = useState<boolean | null>(null)
  const isOpen = chosen ?? isThinking
  return (
    <details class="reasoning" open={isOpen}>
      <summary
        onClick={(event) => {
          event.preventDefault()
          setChosen(!isOpen)
        }}
      >
        Reasoning
      </summary>
      {isOpen ? <Markdown text={text} /> : null}
    </details>
  )
}
