-- name: newest_agent
SELECT * FROM agents WHERE id = %(agent_id)s ORDER BY version DESC LIMIT 1

-- name: agent_version
SELECT * FROM agents WHERE id = %(agent_id)s AND version = %(version)s

-- name: newest_agents
-- By code point, as the agent that ships is sorted in, whatever the database's own order is.
SELECT DISTINCT ON (id COLLATE "C") * FROM agents
WHERE id COLLATE "C" > %(after)s
ORDER BY id COLLATE "C", version DESC
LIMIT %(limit)s

-- name: insert_agent
INSERT INTO agents (id, version, name, description, instructions, model, tools, policies, approval_floor, defaults, vision,
                    containment, model_api, model_context_tokens, compact_at, mcp_servers, mcp_pins, agents, hands_over_to, background_agents,
                    created_at, created_by, source)
VALUES (%(id)s, %(version)s, %(name)s, %(description)s, %(instructions)s, %(model)s, %(tools)s, %(policies)s,
        %(approval_floor)s, %(defaults)s, %(vision)s, %(containment)s, %(model_api)s, %(model_context_tokens)s,
        %(compact_at)s, %(mcp_servers)s, %(mcp_pins)s, %(agents)s, %(hands_over_to)s, %(background_agents)s,
        %(created_at)s, %(created_by)s, %(source)s)
ON CONFLICT (id, version) DO NOTHING
RETURNING *

-- name: edges
-- Of each agent: those that its newest version may call.
SELECT DISTINCT ON (id) id, agents FROM agents ORDER BY id, version DESC

-- name: last_from_files
SELECT wanted.id, last.source
FROM unnest(%(agent_ids)s::text[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT source FROM agents WHERE agents.id = wanted.id AND source ->> 'kind' = 'file' ORDER BY version DESC LIMIT 1
) AS last
