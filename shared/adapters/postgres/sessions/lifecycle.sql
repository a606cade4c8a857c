-- name: revise_session
UPDATE sessions
SET name = %(name)s, agent_id = %(agent_id)s, agent_version = %(agent_version)s::integer,
    agent_draft = CASE WHEN %(agent_version)s::integer = 0 THEN agent_draft END,
    config = %(config)s, tags = %(tags)s, metadata = %(metadata)s, updated_at = %(now)s
WHERE id = %(session_id)s
RETURNING *, %(access)s::text AS access

-- name: turns_of_session
SELECT t.*,
       coalesce((SELECT jsonb_agg(jsonb_build_object('id', c.id, 'message_id', c.message_id, 'name', c.name,
                                                     'arguments', c.arguments, 'status', c.status, 'result', c.result,
                                                     'is_client', c.is_client)
                                  ORDER BY c.step, c.ordinal)
                 FROM tool_calls c WHERE c.turn_id = t.id), '[]') AS tool_calls,
       coalesce((SELECT jsonb_agg(to_jsonb(w) - 'state' - 'answer' || jsonb_build_object('request', w.request::text)
                                  ORDER BY w.id)
                 FROM tool_waits w WHERE w.turn_id = t.id AND w.status = 'pending' AND w.kind <> 'agent'), '[]') AS waits,
       children_of(t.id) AS subagents
FROM turns t
WHERE t.session_id = %(session_id)s AND t.number < %(before)s
ORDER BY t.number DESC
LIMIT %(limit)s

-- name: expired_sessions
SELECT id, owner_id FROM sessions
WHERE expires_at <= %(now)s AND status <> 'ENDED'
ORDER BY expires_at
LIMIT %(limit)s

-- name: participant
SELECT user_id, access FROM session_participants WHERE session_id = %(session_id)s AND user_id = %(user_id)s

-- name: participants
SELECT user_id, access FROM session_participants WHERE session_id = %(session_id)s ORDER BY user_id

-- name: is_private
-- Of a subagent's session: whether the one that it works for is, where its events are told.
SELECT EXISTS (
    SELECT 1 FROM sessions s
    WHERE s.id = %(session_id)s AND s.owner_id = %(user_id)s
      AND NOT EXISTS (SELECT 1 FROM session_participants p WHERE p.session_id = coalesce(s.root_session_id, s.id))) AS private

-- name: count_other_participants
SELECT count(*) AS others FROM session_participants WHERE session_id = %(session_id)s AND user_id <> %(user_id)s

-- name: put_participant
INSERT INTO session_participants (session_id, user_id, access) VALUES (%(session_id)s, %(user_id)s, %(access)s)
ON CONFLICT (session_id, user_id) DO UPDATE SET access = excluded.access

-- name: remove_participant
DELETE FROM session_participants WHERE session_id = %(session_id)s AND user_id = %(user_id)s

-- name: open_turns_of_user
SELECT id FROM turns WHERE session_id = %(session_id)s AND requested_by = %(user_id)s AND ended_at IS NULL
