import { jsonText } from '../../../client'
import { Icon, JsonText } from '../../bits'
import { useAction, useParley } from '../../context'

/** An answer as JSON for a schema. */
export function Output({ value }: { value: unknown }) {
  const { say } = useParley()
  const act = useAction()
  const copy = (): Promise<boolean> =>
    act(async () => {
      await navigator.clipboard.writeText(jsonText(value, 2))
      say('Copied.')
    })
  return (
    <figure class="code output">
      <figcaption>
        JSON
        <button type="button" class="quiet" onClick={() => void copy()}>
          <Icon name="copy" />
          Copy JSON
        </button>
      </figcaption>
      <JsonText value={value} label="Answer as JSON" />
    </figure>
  )
}
