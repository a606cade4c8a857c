-- name: insert_session
INSERT INTO sessions (id, owner_id, name, title, status, agent_id, agent_version, agent_draft, config, tags, metadata,
                      forked_from, created_at, updated_at, event_seq_ceiling, incarnation)
SELECT %(id)s, %(owner_id)s, %(name)s, %(title)s, 'CREATED', %(agent_id)s, %(agent_version)s, %(agent_draft)s, %(config)s,
       %(tags)s, %(metadata)s, %(forked_from)s, %(now)s, %(now)s, %(ceiling)s, gen_random_uuid()::text
-- An id that is being erased may still name events in Redis: they would be the new session's.
WHERE NOT EXISTS (SELECT 1 FROM session_erasures e WHERE e.session_id = %(id)s AND e.finished_at IS NULL)
ON CONFLICT (id) DO NOTHING
RETURNING *, 'owner' AS access

-- name: claim_thread
INSERT INTO session_threads (user_id, thread, session_id) VALUES (%(user_id)s, %(thread)s, %(session_id)s)
ON CONFLICT (user_id, thread) DO NOTHING
RETURNING session_id

-- name: move_thread
UPDATE session_threads SET session_id = %(session_id)s WHERE user_id = %(user_id)s AND thread = %(thread)s

-- name: session_of_thread
SELECT session_id FROM session_threads WHERE user_id = %(user_id)s AND thread = %(thread)s

-- name: session_for_thread
-- Their own thread of that name; else their own session with that id; else one that they take part in, if nobody can have
-- guessed that they would use its id: else whoever makes a session "main" and shares it could read what others post to theirs.
SELECT session_id FROM (
    SELECT 1 AS rank, session_id FROM session_threads WHERE user_id = %(user_id)s AND thread = %(thread)s
    UNION ALL
    SELECT 2, id FROM sessions WHERE id = %(thread)s AND owner_id = %(user_id)s
    UNION ALL
    SELECT 3, session_id FROM session_participants
    WHERE session_id = %(thread)s AND user_id = %(user_id)s
      AND %(thread)s ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
) found
ORDER BY rank LIMIT 1

-- name: id_is_known
-- Whether the user may know that the id is taken: they may read the session that has it, or are erasing their own.
SELECT EXISTS (SELECT 1 FROM sessions s
               LEFT JOIN session_participants p ON p.session_id = s.id AND p.user_id = %(user_id)s
               WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR p.user_id IS NOT NULL))
    OR EXISTS (SELECT 1 FROM session_erasures e
               WHERE e.session_id = %(session_id)s AND e.owner_id = %(user_id)s AND e.finished_at IS NULL) AS known

-- name: session_for_user
SELECT s.*, CASE WHEN s.owner_id = %(user_id)s THEN 'owner' ELSE p.access END AS access
FROM sessions s
LEFT JOIN session_participants p ON p.session_id = s.id AND p.user_id = %(user_id)s
WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR p.user_id IS NOT NULL)

-- name: session_entry
SELECT s.owner_id, s.active_branch, s.last_branch, s.incarnation,
       coalesce((SELECT jsonb_object_agg(p.user_id, p.access) FROM session_participants p WHERE p.session_id = s.id),
                '{}') AS participants
FROM sessions s
WHERE s.id = %(session_id)s

-- name: session_for_posting
SELECT s.*, CASE WHEN s.owner_id = %(user_id)s THEN 'owner' ELSE p.access END AS access,
       usage.tokens AS used_today, usage.cost_usd AS cost_today_usd,
       coalesce(s.agent_draft, (SELECT to_jsonb(a) FROM agents a
                                WHERE a.id = coalesce(s.agent_id, 'assistant')
                                  AND (s.agent_version IS NULL OR a.version = s.agent_version)
                                ORDER BY a.version DESC LIMIT 1)) AS agent
FROM sessions s
LEFT JOIN session_participants p ON p.session_id = s.id AND p.user_id = %(user_id)s
LEFT JOIN LATERAL (SELECT u.input_tokens + u.output_tokens AS tokens, u.cost_usd FROM token_usage u
                   WHERE u.user_id = %(user_id)s AND u.day = %(day)s) usage ON true
WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR p.user_id IS NOT NULL)

-- name: forget_token_usage
DELETE FROM token_usage WHERE day < %(before)s

-- name: lock_session_for_user
SELECT s.*, CASE WHEN s.owner_id = %(user_id)s THEN 'owner' ELSE p.access END AS access
FROM sessions s
LEFT JOIN session_participants p ON p.session_id = s.id AND p.user_id = %(user_id)s
WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR p.user_id IS NOT NULL)
FOR NO KEY UPDATE OF s

-- name: set_session_status
UPDATE sessions
SET status = %(status)s, updated_at = %(now)s,
    ended_at = CASE WHEN %(status)s = 'ENDED' THEN %(now)s ELSE ended_at END,
    granted_tools = CASE WHEN %(status)s = 'ENDED' THEN '{}' ELSE granted_tools END,
    hold_version = hold_version + ('SUSPENDED' IN (status, %(status)s))::integer,
    hold_pending = hold_pending OR 'SUSPENDED' IN (status, %(status)s),
    hold_told_at = CASE WHEN 'SUSPENDED' IN (status, %(status)s) THEN NULL ELSE hold_told_at END,
    held_at = CASE WHEN %(status)s = 'SUSPENDED' THEN %(now)s ELSE held_at END
WHERE id = %(session_id)s
RETURNING *, %(access)s::text AS access

-- name: hold
-- Every orchestration of this hub that a suspension can have reached: of open turns, and of those that ended since it began.
-- Those of its subagents with them.
-- That an approval was delivered says nothing: its orchestration may be running the tool.
SELECT s.status = 'SUSPENDED' AS is_held, s.hold_version AS version, NOT s.hold_pending AS is_settled,
    s.hold_told_at AS told_at,
    ARRAY(SELECT t.id FROM turns t
          WHERE t.session_id = ANY (family.ids) AND t.dispatched_at IS NOT NULL
            AND (t.ended_at IS NULL OR t.ended_at > s.held_at - interval '1 minute')
            AND (t.hub = %(hub)s OR t.hub IS NULL AND %(is_only)s)
          ORDER BY t.id)
    || ARRAY(SELECT a.instance_id FROM approvals a JOIN tool_calls c ON c.id = a.tool_call_id JOIN turns t ON t.id = a.turn_id
             WHERE a.session_id = ANY (family.ids) AND (t.hub = %(hub)s OR t.hub IS NULL AND %(is_only)s)
               AND (c.ended_at IS NULL OR c.ended_at > s.held_at - interval '1 minute')
             ORDER BY a.id)
    || ARRAY(SELECT w.instance_id FROM tool_waits w JOIN tool_calls c ON c.id = w.tool_call_id JOIN turns t ON t.id = w.turn_id
             WHERE w.session_id = ANY (family.ids) AND w.number = 1 AND NOT c.needs_approval
               AND (t.hub = %(hub)s OR t.hub IS NULL AND %(is_only)s)
               AND (c.ended_at IS NULL OR c.ended_at > s.held_at - interval '1 minute')
             ORDER BY w.id)
    || ARRAY(SELECT w.workflow_id FROM tool_waits w JOIN turns t ON t.id = w.turn_id
             WHERE w.session_id = ANY (family.ids) AND w.begun_by IS NOT NULL AND w.workflow_over_at IS NULL
               AND (t.hub = %(hub)s OR t.hub IS NULL AND %(is_only)s)
             ORDER BY w.id) AS instances
FROM sessions s
CROSS JOIN LATERAL (SELECT s.id || ARRAY(SELECT c.id FROM sessions c WHERE c.root_session_id = s.id) AS ids) family
WHERE s.id = %(session_id)s

-- name: told_hold
-- Settled or not: whoever tells the instances something has to see that they do it.
UPDATE sessions SET hold_told_at = %(now)s, hold_pending = true, hold_settled_in = hold_settled_in - coalesce(%(hub)s::text, '')
WHERE id = %(session_id)s AND hold_version = %(version)s

-- name: settle_hold
-- In this hub; once it is in every hub that it can have reached, it is.
UPDATE sessions s
SET hold_settled_in = CASE WHEN %(hub)s::text IS NULL THEN hold_settled_in
                      ELSE hold_settled_in || jsonb_build_object(%(hub)s::text, hold_version) END,
    hold_pending = EXISTS (
        SELECT FROM turns t
        WHERE t.session_id = s.id AND t.dispatched_at IS NOT NULL
          AND (t.ended_at IS NULL OR t.ended_at > s.held_at - interval '1 minute')
          AND t.hub <> coalesce(%(hub)s::text, '') AND EXISTS (SELECT FROM task_hubs h WHERE h.id = t.hub)
          AND (s.hold_settled_in ->> t.hub) IS DISTINCT FROM s.hold_version::text)
WHERE id = %(session_id)s AND hold_version = %(version)s

-- name: unsettle_hold
UPDATE sessions SET hold_version = hold_version + 1, hold_pending = true, hold_told_at = NULL
WHERE id = %(session_id)s AND NOT hold_pending

-- name: unsettled_holds
-- In no order, so that those that cannot be settled do not keep the rest. Not those that are settled in this hub.
SELECT id FROM sessions
WHERE hold_pending AND (hold_settled_in ->> coalesce(%(hub)s::text, '')) IS DISTINCT FROM hold_version::text
ORDER BY random() LIMIT %(limit)s

-- name: lease_lost
UPDATE sessions
SET event_seq_floor = event_seq_ceiling, event_seq_ceiling = event_seq_ceiling + %(lease)s
WHERE id = %(session_id)s AND incarnation IS NOT DISTINCT FROM %(incarnation)s
RETURNING event_seq_floor, event_seq_ceiling

-- name: lease_more
UPDATE sessions SET event_seq_ceiling = event_seq_ceiling + %(lease)s
WHERE id = %(session_id)s AND incarnation IS NOT DISTINCT FROM %(incarnation)s
RETURNING event_seq_floor, event_seq_ceiling

-- name: allocate_seq
UPDATE sessions
SET event_seq_floor = event_seq_ceiling + %(count)s, event_seq_ceiling = event_seq_ceiling + %(count)s
WHERE id = %(session_id)s AND incarnation IS NOT DISTINCT FROM %(incarnation)s
RETURNING event_seq_floor, event_seq_ceiling

-- name: claim_idempotency_key
INSERT INTO idempotency_keys (user_id, scope, key, request_hash, outcome)
VALUES (%(user_id)s, %(scope)s, %(key)s, %(request_hash)s, %(outcome)s)
ON CONFLICT DO NOTHING
RETURNING outcome

-- name: idempotency_key
SELECT request_hash, outcome FROM idempotency_keys
WHERE user_id = %(user_id)s AND scope = %(scope)s AND key = %(key)s

-- name: move_idempotency_outcome
UPDATE idempotency_keys SET outcome = %(outcome)s
WHERE user_id = %(user_id)s AND scope = %(scope)s AND key = %(key)s

-- name: forget_idempotency_keys
-- Not of a scheduled run that waits to be posted: it may have been, by a process that died before it could say so.
DELETE FROM idempotency_keys k
WHERE k.created_at < %(before)s
  AND NOT EXISTS (SELECT FROM schedule_runs r
                  WHERE r.status = 'pending' AND starts_with(k.key, 'schedule:' || r.schedule_uid || ':'))
