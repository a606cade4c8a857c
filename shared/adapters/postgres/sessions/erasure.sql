-- name: mark_erasure
INSERT INTO session_erasures (session_id, owner_id, requested_at, attempted_at)
VALUES (%(session_id)s, %(user_id)s, %(now)s, %(now)s)
ON CONFLICT (session_id) DO UPDATE -- a client-chosen id that was erased before, or a repeat before the rows went
SET owner_id = excluded.owner_id, attempted_at = excluded.attempted_at, instances = NULL, finished_at = NULL,
    by_retention = false,
    told_at = CASE WHEN session_erasures.finished_at IS NULL THEN session_erasures.told_at END,
    requested_at = CASE WHEN session_erasures.finished_at IS NULL THEN session_erasures.requested_at
                        ELSE excluded.requested_at END

-- name: erasure_of_user
SELECT 1 FROM session_erasures WHERE session_id = %(session_id)s AND owner_id = %(user_id)s

-- name: lock_erasure
SELECT instances, finished_at FROM session_erasures WHERE session_id = %(session_id)s FOR UPDATE

-- name: lock_session
SELECT id FROM sessions WHERE id = %(session_id)s FOR UPDATE

-- name: durable_instances
SELECT id, hub, NULL AS instance_id, NULL AS policy, NULL AS requested_at, NULL AS until
FROM turns WHERE session_id = %(session_id)s
UNION ALL
SELECT a.id, t.hub, a.instance_id, a.policy, a.requested_at, coalesce(a.decided_at, a.expires_at)
FROM approvals a JOIN turns t ON t.id = a.turn_id WHERE a.session_id = %(session_id)s
UNION ALL -- those that began to ask, and were cancelled before they did; and those that wait for an answer
SELECT c.id, t.hub, c.turn_id, NULL, NULL, NULL
FROM tool_calls c JOIN turns t ON t.id = c.turn_id WHERE c.session_id = %(session_id)s
  AND (c.needs_approval OR EXISTS (SELECT FROM tool_waits w WHERE w.tool_call_id = c.id))
UNION ALL
SELECT w.workflow_id, t.hub, NULL, NULL, NULL, NULL
FROM tool_waits w JOIN turns t ON t.id = w.turn_id WHERE w.session_id = %(session_id)s AND w.workflow IS NOT NULL

-- name: note_erased_rows
UPDATE session_erasures
SET instances = %(instances)s, hub = %(hub)s, homes = %(homes)s,
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

-- name: erase_deliveries
-- After the rows, when no turn of it can tell anything any more. Its end is still told.
DELETE FROM webhook_deliveries
WHERE session_id = %(session_id)s AND NOT (event = 'session.ended' AND status = 'pending')

-- name: erasure
-- With the instances of this hub, and of hubs that were given up, where nobody will ever look.
SELECT session_id, owner_id, requested_at, told_at, messages, turns, by_retention, incarnation,
       (SELECT coalesce(array_agg(i), '{}') FROM unnest(e.instances) i, coalesce(e.homes ->> i, e.hub) home
        WHERE home IS NULL OR home = %(hub)s OR NOT EXISTS (SELECT FROM task_hubs h WHERE h.id = home)) AS instances
FROM session_erasures e WHERE session_id = %(session_id)s AND finished_at IS NULL

-- name: note_gone_instances
UPDATE session_erasures
SET instances = (SELECT coalesce(array_agg(i), '{}') FROM unnest(instances) i WHERE i <> ALL (%(gone)s::text[]))
WHERE session_id = %(session_id)s AND finished_at IS NULL

-- name: note_told_instances
UPDATE session_erasures SET told_at = %(now)s WHERE session_id = %(session_id)s AND finished_at IS NULL

-- name: finish_erasure
-- With the line that remains, and its seal for ever, so that its removal from the table of lines is noticed.
WITH finished AS (
    UPDATE session_erasures SET finished_at = %(now)s
    WHERE session_id = %(session_id)s AND finished_at IS NULL AND instances = '{}'
    RETURNING session_id
), anchor AS (
    INSERT INTO audit_erasures (id, session_id, hash, erased_at)
    SELECT %(previous)s, session_id, %(hash)s, %(now)s FROM finished
)
INSERT INTO audit_outbox (session_id, row_key, at, who, action, details, previous, hash, due_at)
SELECT session_id, %(row_key)s, %(at)s, %(who)s, %(action)s, %(details)s, %(previous)s, %(hash)s,
       now() + make_interval(secs => %(lease_s)s)
FROM finished

-- name: claim_cut_erasures
-- Not those that wait for another hub alone.
UPDATE session_erasures SET attempted_at = %(now)s
WHERE session_id IN (
    SELECT session_id FROM session_erasures e
    WHERE finished_at IS NULL AND attempted_at < %(before)s
      AND (coalesce(instances, '{}') = '{}' OR EXISTS (
          SELECT FROM unnest(e.instances) i, coalesce(e.homes ->> i, e.hub) home
          WHERE home IS NULL OR home = %(hub)s OR NOT EXISTS (SELECT FROM task_hubs h WHERE h.id = home)))
    ORDER BY attempted_at LIMIT %(limit)s)
RETURNING session_id

-- name: forget_finished_erasures
DELETE FROM session_erasures WHERE finished_at < %(before)s
