// The MCP servers of a saved agent: its pins, what the servers say now, and accepting what changed.

import { useState } from 'preact/hooks'
import type { Agent, McpServerReport, PinReport } from '../../client/models'
import { Badge } from '../bits'
import { useAction, useParley } from '../context'

export function McpServers({ agent, etag, isAdmin, saved }: { agent: Agent; etag: string | null; isAdmin: boolean; saved: () => void }) {
  const { api, say } = useParley()
  const act = useAction()
  const [reports, setReports] = useState<McpServerReport[] | null>(null)
  const path = `/agents/${encodeURIComponent(agent.id)}/mcp`

  const ask = (): Promise<boolean> => act(async () => setReports(await api.all<McpServerReport>(path)))
  const accept = (report: PinReport): Promise<boolean> =>
    act(async () => {
      const headers: Record<string, string> = etag === null ? {} : { 'if-match': etag }
      const now = await api.post<Agent>(`${path}/accept`, { digests: { [report.pin.name]: report.current_digest } }, headers)
      say(`Accepted as version ${now.version}.`)
      saved()
    })

  if (agent.mcp_servers.length === 0) return null
  return (
    <section aria-label="MCP servers">
      <h2>MCP servers</h2>
      <p class="hint">Their definitions are pinned in this version. A tool whose server defines it in another way now is not called.</p>
      <ul class="places">
        {agent.mcp_servers.map((server) => {
          const report = reports?.find(({ name }) => name === server.name)
          return (
            <li key={server.name}>
              <div class="tool-row">
                <strong>{server.name}</strong> <code>{server.url}</code>
                {report?.problem == null ? null : <p class="problem">{report.problem}</p>}
                {agent.mcp_pins
                  .filter((pin) => pin.server === server.name)
                  .map((pin) => (
                    <Pin key={pin.name} name={pin.name} digest={pin.digest} report={report?.tools.find((tool) => tool.pin.name === pin.name)} accept={accept} />
                  ))}
              </div>
            </li>
          )
        })}
      </ul>
      {isAdmin ? (
        <button type="button" onClick={() => void ask()}>
          Compare with the servers
        </button>
      ) : null}
    </section>
  )
}

function Pin({ name, digest, report, accept }: { name: string; digest: string; report: PinReport | undefined; accept: (report: PinReport) => Promise<boolean> }) {
  const state = report?.state
  return (
    <details open={state === 'changed'}>
      <summary>
        <code>{name}</code> {state === undefined ? null : <Badge status={state} />}
      </summary>
      <p class="meta">
        SHA-256 <code>{digest}</code>
      </p>
      {report?.problem == null ? null : <p class="problem">{report.problem}</p>}
      {(report?.changes ?? []).map((change) => (
        <dl key={change.path} class="arguments">
          <dt>
            <code>{change.path}</code>
          </dt>
          <dd>
            pinned: <code>{change.pinned ?? 'nothing'}</code>
          </dd>
          <dd>
            now: <code>{change.current ?? 'nothing'}</code>
          </dd>
        </dl>
      ))}
      {report !== undefined && state === 'changed' ? (
        <button type="button" onClick={() => void accept(report)}>
          Accept this definition of {name}
        </button>
      ) : null}
    </details>
  )
}
