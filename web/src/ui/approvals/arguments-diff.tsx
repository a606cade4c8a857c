import { jsonText } from '../../client'
import { diffLines } from './diff'
import { revealed } from './revealed'

/** A value as JSON with invisible characters escaped. */
export function asShown(value: unknown): string {
  return revealed(jsonText(value, 2))
}

export function Diff({ before, after }: { before: string; after: string }) {
  const lines = diffLines(before, after)
  return (
    <pre class="diff" tabIndex={0} role="region" aria-label="What is changed">
      {lines.map((line, index) => (
        <span key={index} class={line.kind}>
          {line.kind === 'added' ? '+ ' : line.kind === 'removed' ? '- ' : '  '}
          {line.text}
        </span>
      ))}
    </pre>
  )
}
