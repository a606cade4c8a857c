// The tools of MCP servers that a version of an agent pins, as far as their policies depend on them.

import type { Agent } from '../../client'
import type { PolicyTool } from './policy-words'

/** What the service takes for a tool without rules: `ToolRules` in shared/sessions/mcp/servers.py. */
const STRICTEST = { approval: 'manual', acts_outward: true } as const

/** tools: those of the service, whose default policies differ in `required` only. */
export function pinnedTools(agent: Pick<Agent, 'mcp_pins' | 'mcp_servers'> | null, tools: PolicyTool[]): PolicyTool[] {
  const policy = tools[0]?.policy
  if (agent === null || policy === undefined) return []
  return agent.mcp_pins.map(({ name, server, definition }) => {
    const rules = agent.mcp_servers.find((other) => other.name === server)?.rules[definition.name] ?? STRICTEST
    return {
      name,
      parameters: definition.input_schema,
      approval: rules.approval,
      policy: { ...policy, required: rules.approval === 'manual' },
      risks: ['reads_untrusted', 'reads_private', ...(rules.acts_outward ? (['acts_outward'] as const) : [])],
    }
  })
}
