// Ctrl-K: everything that one can go to or do, by a part of its name.

import { useEffect, useState } from 'preact/hooks'
import type { ListedSession, Page } from '../../client'
import { Dialog, titleOf } from '../bits'
import { useLoaded, useParley, words } from '../context'
import { usePin } from '../chat/session/pins'
import { ROOM_NAMES } from '../rooms'
import { go, usePath } from '../router'

export interface Command {
  name: string
  run: () => void
}

const ROOMS = Object.entries(ROOM_NAMES)
const TYPING_MS = 150
const SESSIONS = 12

interface Option {
  id: string
  kind: string
  name: string
  run: () => void
}

export function Palette({ commands, close }: { commands: readonly Command[]; close: () => void }) {
  const { api } = useParley()
  const [typed, setTyped] = useState('')
  const [q, setQ] = useState('')
  const [chosen, setChosen] = useState(0)
  useEffect(() => {
    const timer = setTimeout(() => setQ(typed.trim()), TYPING_MS)
    return () => clearTimeout(timer)
  }, [typed])
  const [room, open] = usePath()
  const pin = usePin(room === 'sessions' && open !== undefined ? open : null)
  const pinning: readonly Command[] = pin === null ? [] : [{ name: pin.isOn ? 'Unpin this session' : 'Pin this session', run: pin.toggle }]
  const [sessions] = useLoaded(() => api.get<Page<ListedSession>>('/sessions', { q, sort: '-updated_at', limit: SESSIONS }), [api, q])
  const sought = typed.trim().toLowerCase()
  const has = ({ name }: { name: string }): boolean => name.toLowerCase().includes(sought)
  const options: Option[] = [
    ...(sessions.phase === 'ready' ? sessions.value.items : []).map((session) => ({ id: `s-${session.id}`, kind: 'Session', name: titleOf(session), run: () => go('sessions', session.id) })).filter(has),
    ...ROOMS.map(([room, name]) => ({ id: `r-${room}`, kind: 'Room', name, run: () => go(room) })).filter(has),
    ...[...pinning, ...commands].map(({ name, run }) => ({ id: `c-${name}`, kind: 'Do', name, run })).filter(has),
  ]
  const at = Math.min(chosen, options.length - 1)
  const current = options[at]
  const take = (option: Option | undefined): void => {
    if (option === undefined) return
    close()
    option.run()
  }
  // Ids of elements hold no characters of names.
  const idOf = (index: number): string => `palette-${index}`
  useEffect(() => document.getElementById(idOf(at))?.scrollIntoView({ block: 'nearest' }), [at])
  return (
    <Dialog title="Go to" close={close}>
      <input
        type="text"
        role="combobox"
        aria-label="Session, room or action"
        aria-expanded="true"
        aria-controls="palette-options"
        aria-activedescendant={current === undefined ? undefined : idOf(at)}
        aria-autocomplete="list"
        autofocus
        autocomplete="off"
        spellcheck={false}
        placeholder="Session, room or action"
        value={typed}
        onInput={(event) => {
          setTyped(event.currentTarget.value)
          setChosen(0)
        }}
        onKeyDown={(event) => {
          if (event.isComposing) return
          if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
            event.preventDefault()
            setChosen((at + (event.key === 'ArrowDown' ? 1 : options.length - 1)) % Math.max(1, options.length))
          } else if (event.key === 'Enter') {
            event.preventDefault()
            take(current)
          }
        }}
      />
      {sessions.phase === 'failed' ? <p class="problem">{words(sessions.error)}</p> : null}
      <ul id="palette-options" class="palette" role="listbox" aria-label="Found">
        {options.map((option, index) => (
          <li key={option.id} id={idOf(index)} role="option" aria-selected={index === at} onClick={() => take(option)} onPointerMove={() => setChosen(index)}>
            <span>{option.name}</span>
            <small>{option.kind}</small>
          </li>
        ))}
      </ul>
      <p class="hint" role="status">
        {options.length === 0 ? 'Nothing is called like that.' : ''}
      </p>
    </Dialog>
  )
}
