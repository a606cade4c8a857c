import type { ToolInfo } from '../../client'
import { Badge, Empty, Icon, JsonText, span, When } from '../bits'
import { useLoaded, useParley } from '../context'
import { link } from '../router'
import { riskWords } from './policy-words'

/** The tools that agents may be given. Everyone may read them. */
export function ToolsPage() {
  const { api } = useParley()
  const [tools, retry] = useLoaded(() => api.all<ToolInfo>('/tools'), [api])
  return (
    <div class="page narrow">
      <p>
        <a class="quiet" href={link('agents')}>
          <Icon name="back" /> All agents
        </a>
      </p>
      <h1>Tools</h1>
      <When state={tools} what="tools" retry={retry}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No tools" />
          ) : (
            <ul class="cards" aria-label="Tools">
              {all.map((tool) => (
                <ToolCard key={tool.name} tool={tool} />
              ))}
            </ul>
          )
        }
      </When>
    </div>
  )
}

function ToolCard({ tool }: { tool: ToolInfo }) {
  const { name, description, approval, idempotent, risks, timeout_seconds: seconds, parameters, path } = tool
  return (
    <li class="card">
      <span class="line">
        <strong>
          <code>{name}</code>
        </strong>
        {approval === 'manual' ? <Badge status="pending" label="each call needs an approval" /> : <Badge status="" label="runs automatically" />}
      </span>
      <p class="told">{description}</p>
      <p class="meta">
        {path === null ? 'Built in' : <code>{path}</code>} · {idempotent ? 'Idempotent' : 'Not idempotent'} · risks: {riskWords(risks)} · time limit {span(seconds * 1000)}
      </p>
      <details class="fine-print">
        <summary>Arguments</summary>
        <JsonText value={parameters} label={`Arguments of ${name}`} />
      </details>
    </li>
  )
}
