// Who may read a session or write to it: for its owner to change, for others to see and to leave.

import { useState } from 'preact/hooks'
import type { Access, Participant, SessionFeed } from '../../../client'
import { Dialog, When } from '../../bits'
import { useAction, useLoaded, useParley } from '../../context'
import { go } from '../../router'

const MAY: Record<Access, string> = { owner: 'owner', write: 'may write', read: 'may read' }

export function ShareDialog({ feed, access, close }: { feed: SessionFeed; access: Access | null; close: () => void }) {
  const { api, me, say, touchSessions } = useParley()
  const act = useAction()
  const path = `/sessions/${encodeURIComponent(feed.sessionId)}/participants`
  const [people, reload] = useLoaded(() => api.all<Participant>(path), [api, path])
  const [isLeaving, setLeaving] = useState(false)
  const isOwner = access === 'owner'
  const of = (user: string): string => `${path}/${encodeURIComponent(user)}`
  const put = (user: string, access: string, said: string): Promise<boolean> =>
    act(async () => {
      await api.put<Participant>(of(user), { access })
      say(said)
    }).then((went) => {
      reload()
      return went
    })
  const leave = (): void =>
    void act(async () => {
      await feed.close()
      await api.delete(of(me?.name ?? ''))
      touchSessions()
      go('sessions')
    })

  if (isLeaving) {
    return (
      <Dialog key="leave" title="Leave this session?" close={() => setLeaving(false)}>
        <p>You will not see it any more, unless its owner lets you in again.</p>
        <footer>
          <button type="button" autofocus onClick={() => setLeaving(false)}>
            Stay
          </button>
          <button type="button" class="danger" onClick={leave}>
            Leave
          </button>
        </footer>
      </Dialog>
    )
  }
  return (
    <Dialog key="share" title="Who is in this session" close={close}>
      {isOwner ? (
        <form
          class="share"
          onSubmit={(event) => {
            event.preventDefault()
            const form = event.currentTarget
            const given = new FormData(form)
            const user = (given.get('user') as string).trim()
            if (user === me?.name) return say('You are its owner already.')
            void put(user, given.get('access') as string, `${user} can open this session now.`).then((went) => went && form.reset())
          }}
        >
          <label class="field">
            User
            <input name="user" autofocus required maxLength={200} pattern="[^\s;,]+" title="One user, without spaces" autocomplete="off" spellcheck={false} />
          </label>
          <label class="field">
            They
            <select name="access">
              <option value="read">may read</option>
              <option value="write">may write</option>
            </select>
          </label>
          <button type="submit" class="primary">
            Share
          </button>
        </form>
      ) : null}
      <section aria-label="People">
        <When state={people} what="participants" retry={reload}>
          {(all) => (
            <ul class="places">
              {isOwner ? <Row user={me?.name ?? ''} note="owner (you)" /> : null}
              {all.length === 0 && isOwner ? <li class="hint">Nobody else can see it.</li> : null}
              {all.map(({ user_id, access: may }) =>
                isOwner ? (
                  <li key={user_id}>
                    <strong>{user_id}</strong>
                    <span class="share-tools">
                      <select
                        aria-label={`What ${user_id} may do`}
                        value={may}
                        onChange={(event) => void put(user_id, event.currentTarget.value, `${user_id} ${MAY[event.currentTarget.value as Access]} now.`)}
                      >
                        <option value="read">may read</option>
                        <option value="write">may write</option>
                      </select>
                      <button
                        type="button"
                        aria-label={`Remove ${user_id}`}
                        onClick={() =>
                          void act(async () => {
                            await api.delete(of(user_id))
                            say(`${user_id} is out. What ran for them was stopped.`)
                          }, `remove ${user_id}`).then(reload)
                        }
                      >
                        Remove
                      </button>
                    </span>
                  </li>
                ) : (
                  <Row key={user_id} user={user_id} note={user_id === me?.name ? `${MAY[may]} (you)` : MAY[may]} />
                ),
              )}
            </ul>
          )}
        </When>
      </section>
      {isOwner ? (
        <p class="hint">Whoever may write can also answer what their own messages set off. Only you can share, rename and end it.</p>
      ) : (
        <footer>
          <button type="button" class="danger" disabled={access === null || me === null} onClick={() => setLeaving(true)}>
            Leave…
          </button>
        </footer>
      )}
    </Dialog>
  )
}

function Row({ user, note }: { user: string; note: string }) {
  return (
    <li>
      <strong>{user}</strong>
      <small>{note}</small>
    </li>
  )
}
