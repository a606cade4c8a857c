import type { ComponentChildren } from 'preact'
import { Icon } from '../../bits'

/** A small menu; it closes after a choice, on Escape, and when it loses the focus. */
export function Menu({ label, icon, children }: { label: string; icon: string; children: ComponentChildren }) {
  return (
    <details
      class="menu"
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return
        event.currentTarget.open = false
        event.currentTarget.querySelector('summary')?.focus()
      }}
      onFocusOut={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) event.currentTarget.open = false
      }}
      onClick={(event) => {
        if ((event.target as Element).closest('.panel button, .panel a') !== null) event.currentTarget.open = false
      }}
    >
      <summary class="quiet icon" aria-label={label} title={label}>
        <Icon name={icon} />
      </summary>
      <div class="panel">{children}</div>
    </details>
  )
}
