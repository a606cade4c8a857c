-- name: revise_session
UPDATE sessions
SET name = %(name)s, agent_id = %(agent_id)s, config = %(config)s, tags = %(tags)s, metadata = %(metadata)s,
    updated_at = %(now)s
WHERE id = %(session_id)s
RETURNING *, %(access)s::text AS access

-- name: turns_of_session
SELECT t.*,
       coalesce((SELECT jsonb_agg(jsonb_build_object('id', c.id, 'message_id', c.message_id, 'name', c.name,
                                                     'arguments', c.arguments, 'status', c.status, 'result', c.result)
                                  ORDER BY c.step, c.ordinal)
                 FROM tool_calls c WHERE c.turn_id = t.id), '[]') AS tool_calls
FROM turns t
WHERE t.session_id = %(session_id)s AND t.number < %(before)s
ORDER BY t.number DESC
LIMIT %(limit)s

-- name: has_open_turns
SELECT EXISTS (SELECT 1 FROM turns WHERE session_id = %(session_id)s AND ended_at IS NULL) AS open

-- name: expired_sessions
SELECT id, owner_id FROM sessions
WHERE expires_at <= %(now)s AND status <> 'ENDED'
ORDER BY expires_at
LIMIT %(limit)s

-- name: participant
SELECT user_id, access FROM session_participants WHERE session_id = %(session_id)s AND user_id = %(user_id)s

-- name: is_private
SELECT EXISTS (
    SELECT 1 FROM sessions s
    WHERE s.id = %(session_id)s AND s.owner_id = %(user_id)s
      AND NOT EXISTS (SELECT 1 FROM session_participants p WHERE p.session_id = s.id)) AS private

-- name: count_other_participants
SELECT count(*) AS others FROM session_participants WHERE session_id = %(session_id)s AND user_id <> %(user_id)s

-- name: put_participant
INSERT INTO session_participants (session_id, user_id, access) VALUES (%(session_id)s, %(user_id)s, %(access)s)
ON CONFLICT (session_id, user_id) DO UPDATE SET access = excluded.access

-- name: remove_participant
DELETE FROM session_participants WHERE session_id = %(session_id)s AND user_id = %(user_id)s

-- name: open_turns_of_user
SELECT id FROM turns WHERE session_id = %(session_id)s AND requested_by = %(user_id)s AND ended_at IS NULL

-- name: mark_erasure
INSERT INTO session_erasures (session_id, owner_id, requested_at, attempted_at)
VALUES (%(session_id)s, %(user_id)s, %(now)s, %(now)s)
ON CONFLICT (session_id) DO UPDATE -- a client-chosen id that was erased before, or a repeat before the rows went
SET owner_id = excluded.owner_id, attempted_at = excluded.attempted_at, instances = NULL, finished_at = NULL,
    by_retention = false,
    requested_at = CASE WHEN session_erasures.finished_at IS NULL THEN session_erasures.requested_at
                        ELSE excluded.requested_at END

-- name: erasure_of_user
SELECT 1 FROM session_erasures WHERE session_id = %(session_id)s AND owner_id = %(user_id)s

-- name: lock_erasure
SELECT instances, finished_at FROM session_erasures WHERE session_id = %(session_id)s FOR UPDATE

-- name: lock_session
SELECT id FROM sessions WHERE id = %(session_id)s FOR UPDATE

-- name: durable_instances
SELECT id, NULL AS instance_id, NULL AS policy, NULL AS requested_at, NULL AS until
FROM turns WHERE session_id = %(session_id)s
UNION ALL
SELECT id, instance_id, policy, requested_at, coalesce(decided_at, expires_at)
FROM approvals WHERE session_id = %(session_id)s

-- name: note_erased_rows
UPDATE session_erasures
SET instances = %(instances)s,
    messages = (SELECT count(*) FROM messages WHERE session_id = %(session_id)s),
    turns = (SELECT count(*) FROM turns WHERE session_id = %(session_id)s),
    incarnation = (SELECT incarnation FROM sessions WHERE id = %(session_id)s)
WHERE session_id = %(session_id)s

-- name: erase_idempotency_keys
DELETE FROM idempotency_keys
WHERE split_part(scope, '/', 3) = %(session_id)s
   OR (outcome ? 'session_id' AND outcome ->> 'session_id' = %(session_id)s)

-- name: erase_session
DELETE FROM sessions WHERE id = %(session_id)s

-- name: erasure
SELECT session_id, owner_id, requested_at, instances, messages, turns, by_retention, incarnation
FROM session_erasures WHERE session_id = %(session_id)s AND finished_at IS NULL

-- name: note_erased_instances
UPDATE session_erasures
SET instances = (SELECT coalesce(array_agg(i), '{}') FROM unnest(instances) i WHERE i <> ALL (%(gone)s::text[]))
WHERE session_id = %(session_id)s AND finished_at IS NULL

-- name: finish_erasure
UPDATE session_erasures SET finished_at = %(now)s
WHERE session_id = %(session_id)s AND finished_at IS NULL AND instances = '{}'

-- name: cut_erasures
UPDATE session_erasures SET attempted_at = %(now)s
WHERE session_id IN (SELECT session_id FROM session_erasures WHERE finished_at IS NULL AND attempted_at < %(before)s
                     ORDER BY attempted_at LIMIT %(limit)s)
RETURNING session_id

-- name: forget_erasures
DELETE FROM session_erasures WHERE finished_at < %(before)s
