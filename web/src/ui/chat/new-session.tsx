import { useState } from 'preact/hooks'
import type { Page, Session, Template } from '../../client'
import { Dialog, When } from '../bits'
import { useAction, useLoaded, useParley } from '../context'
import { go } from '../router'

export function NewSession({ close }: { close: () => void }) {
  const { api, touchSessions } = useParley()
  const act = useAction()
  const [name, setName] = useState('')
  const [chosen, setChosen] = useState('general')
  const [templates, retry] = useLoaded(() => api.get<Page<Template>>('/templates'), [api])
  const make = async (): Promise<void> => {
    const went = await act(async () => {
      const session = await api.post<Session>('/sessions', { template: chosen, ...(name.trim() === '' ? {} : { name: name.trim() }) })
      touchSessions()
      go('sessions', session.id)
    })
    if (went) close()
  }
  return (
    <Dialog title="New session" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void make()
        }}
      >
        <label class="field">
          Name
          <input autofocus value={name} maxLength={200} placeholder="Optional" onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <When state={templates} what="templates" retry={retry}>
          {(page) => (
            <fieldset class="templates">
              <legend>Template</legend>
              {page.items.map((template) => (
                <label key={template.id} class="choice">
                  <input type="radio" name="template" value={template.id} checked={template.id === chosen} onChange={() => setChosen(template.id)} />
                  <span>
                    <strong>{template.name}</strong>
                    <small>{template.description ?? ''}</small>
                  </span>
                </label>
              ))}
            </fieldset>
          )}
        </When>
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Create
          </button>
        </footer>
      </form>
    </Dialog>
  )
}
