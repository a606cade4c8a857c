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
                    containment, model_api, model_context_tokens, compact_at, created_at, created_by)
VALUES (%(id)s, %(version)s, %(name)s, %(description)s, %(instructions)s, %(model)s, %(tools)s, %(policies)s,
        %(approval_floor)s, %(defaults)s, %(vision)s, %(containment)s, %(model_api)s, %(model_context_tokens)s,
        %(compact_at)s, %(now)s, %(created_by)s)
ON CONFLICT (id, version) DO NOTHING
RETURNING *
