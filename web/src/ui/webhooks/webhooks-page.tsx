import { useState } from 'preact/hooks'
import type { Delivery, Webhook } from '../../client'
import { Badge, Deadline, Empty, Icon, JsonText, span, Time, When } from '../bits'
import { useLoaded, useParley, words } from '../context'
import { link } from '../router'

const SHOWN = 20

/** The caller's webhooks, each with its last deliveries. They are made and changed by the API. */
export function WebhooksPage() {
  const { api } = useParley()
  const [webhooks, retry] = useLoaded(() => api.all<Webhook>('/webhooks'), [api])
  return (
    <div class="page narrow">
      <p>
        <a class="quiet" href={link('insight')}>
          <Icon name="back" /> Insight
        </a>
      </p>
      <h1>Webhooks</h1>
      <When state={webhooks} what="webhooks" retry={retry}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No webhooks">
              <p>
                <code>POST /api/v1/webhooks</code> makes one that is told of your turns and sessions.
              </p>
            </Empty>
          ) : (
            <ul class="cards" aria-label="Webhooks">
              {all.map((webhook) => (
                <WebhookCard key={webhook.id} webhook={webhook} changed={retry} />
              ))}
            </ul>
          )
        }
      </When>
    </div>
  )
}

function WebhookCard({ webhook, changed }: { webhook: Webhook; changed: () => void }) {
  const { api, say } = useParley()
  const [deliveries, retry] = useLoaded(() => api.upTo<Delivery>(`/webhooks/${webhook.id}/deliveries`, {}, SHOWN), [api, webhook.id])
  const [isBusy, setBusy] = useState(false)
  const run = async (what: () => Promise<unknown>, done: string, then: () => void): Promise<void> => {
    setBusy(true)
    try {
      await what()
      say(done)
      then()
    } catch (error) {
      say(words(error), 'error')
    } finally {
      setBusy(false)
    }
  }
  const again = (id: string): Promise<void> =>
    run(() => api.post(`/webhooks/${webhook.id}/deliveries/${id}/send`), 'It is sent again within seconds.', retry)
  const switchOn = (): Promise<void> => run(() => api.patch(`/webhooks/${webhook.id}`, { enabled: true }), 'It is on again.', changed)
  return (
    <li class="card">
      <span class="line">
        <strong class="told">{webhook.url}</strong>
        <WebhookState webhook={webhook} />
      </span>
      {webhook.description === null ? null : <p class="told">{webhook.description}</p>}
      <p class="meta">{webhook.events.join(', ')}</p>
      {webhook.enabled ? null : (
        <p class="told">
          {webhook.off_reason}{' '}
          <button type="button" disabled={isBusy} onClick={() => void switchOn()}>
            Switch it on
          </button>
        </p>
      )}
      <When state={deliveries} what="deliveries" retry={retry}>
        {(page) =>
          page.items.length === 0 ? (
            <p class="hint">Nothing was sent yet.</p>
          ) : (
            <ul class="plain-list" aria-label={`Deliveries to ${webhook.url}`}>
              {page.items.map((delivery) => (
                <li key={delivery.id}>
                  <span class="line">
                    <span>
                      <Badge status={TONE[delivery.status]} label={delivery.status} /> <code>{delivery.event}</code> <Time at={delivery.occurred_at} />
                    </span>
                    {webhook.enabled ? (
                      <button type="button" class="quiet" disabled={isBusy} onClick={() => void again(delivery.id)}>
                        Send again
                      </button>
                    ) : null}
                  </span>
                  <p class="meta">{outcome(delivery)}</p>
                  {delivery.next_try_at === null || delivery.tries === 0 ? null : (
                    <p class="meta">
                      Next try <Deadline at={delivery.next_try_at} />
                    </p>
                  )}
                  <details class="fine-print">
                    <summary>What is sent</summary>
                    <JsonText value={delivery.data} label={`Data of ${delivery.event}`} />
                  </details>
                </li>
              ))}
            </ul>
          )
        }
      </When>
    </li>
  )
}

const TONE: Record<Delivery['status'], string> = { pending: 'pending', delivered: 'completed', failed: 'failed' }

function WebhookState({ webhook }: { webhook: Webhook }) {
  if (!webhook.enabled) return <Badge status="failed" label="off" />
  if (webhook.failing_since !== null) return <Badge status="pending" label="its receiver takes nothing" />
  return <Badge status="completed" label="on" />
}

/** What became of the last try, in words. */
function outcome({ tries, answer_code: code, error, took_ms: took }: Delivery): string {
  if (tries === 0) return 'Not tried yet'
  const count = tries === 1 ? '1 try' : `${tries} tries`
  const said = error ?? (code === null ? 'being sent' : `The receiver answered ${code}.`)
  return took === null ? `${count} · ${said}` : `${count} · ${said} · ${took < 1_000 ? `${took} ms` : span(took)}`
}
