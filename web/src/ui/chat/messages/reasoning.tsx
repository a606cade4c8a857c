import { useState } from 'preact/hooks'
import { Markdown } from '../../markdown'

/** The model's reasoning: open until there is an answer, then closed, unless the reader toggles it. */
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
