import { useState } from 'preact/hooks'
import { Dialog } from '../bits'
import { hasSingleKeys, setSingleKeys, SHORTCUTS } from './keys'

export function HelpSheet({ close }: { close: () => void }) {
  const [isOn, setOn] = useState(hasSingleKeys)
  return (
    <Dialog title="Shortcuts" close={close}>
      <dl class="shortcuts">
        {SHORTCUTS.map(([keys, words]) => (
          <div key={keys}>
            <dt>
              {keys.split(' ').map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{words}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input
          type="checkbox"
          checked={isOn}
          onChange={(event) => {
            setSingleKeys(event.currentTarget.checked)
            setOn(event.currentTarget.checked)
          }}
        />
        Keys without Ctrl do something
      </label>
    </Dialog>
  )
}
