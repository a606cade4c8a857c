// The MCP servers of a saved agent: its pins, what the servers say now, and accepting or giving up what changed.

import { useState } from 'preact/hooks'
import type { Agent, McpServer, McpServerReport, PinReport } from '../../client/models'
import { Badge } from '../bits'
import { useAction, useParley } from '../context'
import { draftOf } from './drafts'

interface Props {
  agent: Agent
  etag: string | null
  isAdmin: boolean
  saved: () => void
}

export function McpServers({ agent, etag, isAdmin, saved }: Props) {
  const { api, say } = useParley()
  const act = useAction()
  const [reports, setReports] = useState<McpServerReport[] | null>(null)
  const path = `/agents/${encodeURIComponent(agent.id)}`
  const headers: Record<string, string> = etag === null ? {} : { 'if-match': etag }

  const ask = (): Promise<boolean> => act(async () => setReports(await api.all<McpServerReport>(`${path}/mcp`)))
  const accept = (report: PinReport): Promise<boolean> =>
    act(async () => {
      const now = await api.post<Agent>(`${path}/mcp/accept`, { digests: { [report.pin.name]: report.current_digest } }, headers)
      say(`Accepted as version ${now.version}.`)
      saved()
    })
  const put = (server: McpServer, tools: string[]): Promise<boolean> =>
    act(async () => {
      const others = agent.mcp_servers.filter(({ name }) => name !== server.name)
      const rules = Object.fromEntries(Object.entries(server.rules).filter(([name]) => tools.includes(name)))
      const servers = tools.length === 0 ? others : agent.mcp_servers.map((one) => (one.name === server.name ? { ...server, tools, rules } : one))
      const now = await api.put<Agent>(path, { ...draftOf(agent), mcp_servers: servers }, headers)
      say(`Saved as version ${now.version}.`)
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
                <span>
                  <strong>{server.name}</strong> <code class="address">{server.url}</code>
                </span>
                <small>{credentialWords(server)}</small>
                {report?.problem == null ? null : <p class="problem">{report.problem}</p>}
                {agent.mcp_pins
                  .filter((pin) => pin.server === server.name)
                  .map((pin) => (
                    <Pin
                      key={pin.name}
                      name={pin.name}
                      about={pin.definition.description ?? ''}
                      digest={pin.digest}
                      rules={server.rules[pin.definition.name]}
                      report={report?.tools.find((tool) => tool.pin.name === pin.name)}
                      accept={accept}
                      drop={isAdmin ? () => void put(server, server.tools.filter((tool) => tool !== pin.definition.name)) : null}
                    />
                  ))}
                {report === undefined || report.others.length === 0 ? null : (
                  <details class="fine-print">
                    <summary>It offers {report.others.length} more</summary>
                    <ul class="plain-list">
                      {report.others.map((tool) => (
                        <li key={tool}>
                          <code>{tool}</code>{' '}
                          {isAdmin ? (
                            <button type="button" onClick={() => void put(server, [...server.tools, tool])}>
                              Let it use {tool}
                            </button>
                          ) : null}
                        </li>
                      ))}
                    </ul>
                  </details>
                )}
              </div>
            </li>
          )
        })}
      </ul>
      {isAdmin ? (
        <div>
          <button type="button" onClick={() => void ask()}>
            Compare with the servers
          </button>
        </div>
      ) : null}
    </section>
  )
}

function credentialWords({ credentials }: McpServer): string {
  if (credentials === null) return 'no credentials'
  return credentials.kind === 'header' ? `the secret ${credentials.secret} in ${credentials.name}` : `the identity of the app, for ${credentials.scope}`
}

interface PinProps {
  name: string
  about: string
  digest: string
  rules: McpServer['rules'][string] | undefined
  report: PinReport | undefined
  accept: (report: PinReport) => Promise<boolean>
  /** null: the caller may not. */
  drop: (() => void) | null
}

function Pin({ name, about, digest, rules, report, accept, drop }: PinProps) {
  const state = report?.state
  return (
    <details open={state === 'changed'}>
      <summary>
        <code>{name}</code> {state === undefined ? null : <Badge status={state} />}
      </summary>
      {about === '' ? null : <p class="told">{about}</p>}
      <p class="meta">{rules === undefined ? 'A person decides each call; it is taken to act on the outside.' : `Approval: ${rules.approval}; ${rules.acts_outward ? 'acts on the outside' : 'does not act on the outside'}; ${rules.idempotent ? 'idempotent' : 'not idempotent'}; ${rules.timeout_seconds} s.`}</p>
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
      <span class="row">
        {report !== undefined && state === 'changed' ? (
          <button type="button" onClick={() => void accept(report)}>
            Accept this definition of {name}
          </button>
        ) : null}
        {drop === null ? null : (
          <button type="button" class="quiet" onClick={drop}>
            Stop using {name}
          </button>
        )}
      </span>
    </details>
  )
}
