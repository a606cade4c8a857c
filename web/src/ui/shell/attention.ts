// What tells people that something waits for them while they look elsewhere: the tab's title and icon, and notifications.

import { useEffect } from 'preact/hooks'
import type { Approval } from '../../client'
import type { Inbox } from '../approvals/inbox'
import waitingIcon from '../../icon-waiting.svg'
import { go } from '../router'

const NOTIFY_KEY = 'parley.notify'

const title = { approvals: 0, questions: 0, room: '', name: null as string | null }

function write(): void {
  const parts = [title.name, title.room, 'Parley'].filter((part) => part !== null && part !== '')
  const count = title.approvals + title.questions
  document.title = `${count > 0 ? `(${count}) ` : ''}${parts.join(' · ')}`
}

/** The room that the page shows, in the tab's title. */
export function useRoomTitle(room: string): void {
  useEffect(() => {
    title.room = room
    write()
  }, [room])
}

/** What the page shows in its room, in the tab's title. */
export function useNameTitle(name: string): void {
  useEffect(() => {
    title.name = name
    write()
    return () => {
      title.name = null
      write()
    }
  }, [name])
}

/** How much waits: a number before the tab's title, and another icon. */
export function showCount(waiting: Partial<Pick<typeof title, 'approvals' | 'questions'>>): void {
  Object.assign(title, waiting)
  write()
  const icon = document.querySelector<HTMLLinkElement>('link[rel="icon"]')
  if (icon === null) return
  icon.dataset['quiet'] ??= icon.href
  icon.href = title.approvals + title.questions > 0 ? waitingIcon : icon.dataset['quiet']
}

export function canNotify(): boolean {
  return 'Notification' in window && Notification.permission !== 'denied'
}

export function isNotifying(): boolean {
  return 'Notification' in window && Notification.permission === 'granted' && localStorage.getItem(NOTIFY_KEY) === 'on'
}

/** Ask the browser for the right to notify; whether it was given. */
export async function startNotifying(): Promise<boolean> {
  const given = (await Notification.requestPermission()) === 'granted'
  if (given) localStorage.setItem(NOTIFY_KEY, 'on')
  return given
}

export function stopNotifying(): void {
  localStorage.removeItem(NOTIFY_KEY)
}

/** Keep title, icon and notifications at what waits. failed: the browser has no notifications outside of a service worker. */
export function watch(inbox: Inbox, failed: () => void): () => void {
  let known: ReadonlySet<string> | null = null
  const stop = inbox.subscribe(({ pending, isLoaded }) => {
    if (!isLoaded) return
    showCount({ approvals: pending.length })
    const before = known
    known = new Set(pending.map(({ id }) => id))
    if (before === null || !isNotifying() || (!document.hidden && document.hasFocus())) return
    for (const approval of pending) {
      if (before.has(approval.id)) continue
      try {
        notify(approval)
      } catch (error) {
        if (!(error instanceof TypeError)) throw error
        stopNotifying()
        failed()
      }
    }
  })
  return () => {
    stop()
    showCount({ approvals: 0 })
  }
}

function notify({ id, tool, requested_by }: Approval): void {
  // No arguments: a notification is seen over shoulders, and kept by the system.
  const shown = new Notification('An approval waits for you', { body: `${tool}, asked by ${requested_by}`, tag: id })
  shown.onclick = () => {
    window.focus()
    go('approvals', id)
    shown.close()
  }
}
