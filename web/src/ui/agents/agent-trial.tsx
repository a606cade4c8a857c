// A test run beside the editor: what the form holds now, or the saved version, answers in a session that is thrown away.

import { useEffect, useRef, useState } from 'preact/hooks'
import { jsonText } from '../../client'
import { useAction, useParley } from '../context'
import { TrialView } from '../playground/trial-view'
import { beginTrial, say, throwAway, type Tried } from '../playground/trials'
import { link } from '../router'
import '../playground/playground.css'

interface Props {
  agentId: string
  /** As the form holds it. */
  draft: unknown
  /** The version that is saved and not changed in the form; null: the draft is tried. */
  saved: number | null
}

export function AgentTrial({ agentId, draft, saved }: Props) {
  const { api } = useParley()
  const act = useAction()
  const [run, setRun] = useState<{ id: string; of: string } | null>(null)
  const [text, setText] = useState('')
  const [isSending, setSending] = useState(false)
  const tried: Tried = saved === null ? { draft } : { version: saved }
  const of = jsonText(tried)
  const open = useRef<string | null>(null)
  open.current = run?.id ?? null
  // It goes with the page.
  useEffect(
    () => () => {
      if (open.current !== null) void throwAway(api, open.current).catch(() => undefined)
    },
    [api],
  )
  const isStale = run !== null && run.of !== of
  const end = async (): Promise<void> => {
    if (run === null) return
    setRun(null)
    await act(() => throwAway(api, run.id))
  }
  const send = async (): Promise<void> => {
    setSending(true)
    await act(async () => {
      let id = run?.id ?? null
      if (id === null || isStale) {
        if (id !== null) await throwAway(api, id)
        id = (await beginTrial(api, agentId, tried, `Trial of ${agentId}`)).id
        setRun({ id, of })
      }
      await say(api, id, text.trim())
      setText('')
    })
    setSending(false)
  }
  return (
    <section class="trial" aria-label="Test run">
      <h2>Test run</h2>
      <p class="hint">{saved === null ? 'What the form holds answers; nothing is saved.' : `Version ${saved} answers.`} Its tools are real: what acts outward does.</p>
      {run === null ? null : <TrialView sessionId={run.id} label="Answers of the test run" />}
      {isStale ? <p class="hint">The form has changed: the next message begins a new run.</p> : null}
      <form
        class="try"
        aria-label="Test run message"
        onSubmit={(event) => {
          event.preventDefault()
          if (text.trim() !== '') void send()
        }}
      >
        <label class="field">
          Test message
          <textarea rows={3} required maxLength={32_000} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <div class="buttons">
          <button type="submit" class="primary" disabled={isSending}>
            {run === null || isStale ? 'Run' : 'Say'}
          </button>
          {run === null ? null : (
            <>
              <button type="button" onClick={() => void end()}>
                Throw away
              </button>
              <a class="quiet" href={link('sessions', run.id)} target="_blank" rel="noreferrer">
                Its session
              </a>
            </>
          )}
        </div>
      </form>
    </section>
  )
}
