-- name: put_schedule
-- xmax is 0 in a row that this statement has inserted. The limit may be passed by as many as come at the very same time: it
-- bounds abuse, nothing else hangs on it.
INSERT INTO schedules (uid, owner_id, id, name, content, session_id, agent_id, config, approval_mode, at, cron, zone, missed,
                       overlap, status, next_run_at, created_at, updated_at)
SELECT %(uid)s, %(owner_id)s, %(id)s, %(name)s, %(content)s, %(session_id)s, %(agent_id)s, %(config)s, %(approval_mode)s,
       %(at)s, %(cron)s, %(zone)s, %(missed)s, %(overlap)s, %(status)s, %(next_run_at)s, %(now)s, %(now)s
WHERE (SELECT count(*) FROM schedules WHERE owner_id = %(owner_id)s AND id <> %(id)s) < %(limit)s
ON CONFLICT (owner_id, id) DO UPDATE
SET name = excluded.name, content = excluded.content, session_id = excluded.session_id, agent_id = excluded.agent_id,
    config = excluded.config, approval_mode = excluded.approval_mode, at = excluded.at, cron = excluded.cron,
    zone = excluded.zone, missed = excluded.missed, overlap = excluded.overlap, status = excluded.status,
    status_reason = NULL, next_run_at = excluded.next_run_at, updated_at = excluded.updated_at
RETURNING *, xmax = 0 AS is_new

-- name: skip_pending_runs
UPDATE schedule_runs SET status = 'skipped', reason = %(reason)s, claimed_until = NULL, noted_at = %(now)s
WHERE schedule_uid = %(uid)s AND status = 'pending'

-- name: schedule
SELECT * FROM schedules WHERE owner_id = %(owner_id)s AND id = %(id)s

-- name: runs_of_schedule
SELECT * FROM schedule_runs WHERE schedule_uid = %(uid)s ORDER BY due_at DESC LIMIT %(limit)s

-- name: schedules_of_owner
SELECT s.*, to_jsonb(r) AS last_run FROM schedules s
LEFT JOIN LATERAL (SELECT * FROM schedule_runs WHERE schedule_uid = s.uid ORDER BY due_at DESC LIMIT 1) r ON true
WHERE s.owner_id = %(owner_id)s
ORDER BY s.id COLLATE "C" LIMIT %(limit)s

-- name: delete_schedule
DELETE FROM schedules WHERE owner_id = %(owner_id)s AND id = %(id)s RETURNING uid

-- name: lock_due_schedules
-- Another process that looks at the same time takes others.
SELECT s.*, (SELECT count(*) FROM schedule_runs r WHERE r.schedule_uid = s.uid AND r.status = 'pending') AS pending
FROM schedules s
WHERE s.next_run_at <= %(now)s
ORDER BY s.next_run_at LIMIT %(limit)s
FOR UPDATE OF s SKIP LOCKED

-- name: move_schedule
UPDATE schedules
SET next_run_at = %(next_run_at)s, status = CASE WHEN %(next_run_at)s::timestamptz IS NULL THEN 'done' ELSE status END
WHERE uid = %(uid)s

-- name: insert_runs
INSERT INTO schedule_runs (schedule_uid, due_at, status, reason, noted_at)
SELECT %(uid)s, run.due_at, run.status, run.reason, %(now)s
FROM unnest(%(due)s::timestamptz[], %(statuses)s::text[], %(reasons)s::text[]) AS run (due_at, status, reason)
ON CONFLICT DO NOTHING

-- name: forget_old_runs
-- The newest are kept, and whatever has not ended: what is due later must not overlap with it.
DELETE FROM schedule_runs r
WHERE r.schedule_uid = %(uid)s AND r.status <> 'pending'
  AND NOT EXISTS (SELECT FROM turns t WHERE t.id = r.turn_id AND t.ended_at IS NULL)
  AND r.due_at <= (SELECT due_at FROM schedule_runs WHERE schedule_uid = %(uid)s ORDER BY due_at DESC OFFSET %(kept)s LIMIT 1)

-- name: claim_runs
-- Of each schedule the oldest run only, so that its runs go one after the other. Where they queue, one waits for the turn of
-- the one before it. A claim that has run out is of a process that died: what it posted is known by its idempotency key.
WITH next AS (
    SELECT r.schedule_uid, r.due_at,
           EXISTS (SELECT FROM schedule_runs p JOIN turns t ON t.id = p.turn_id
                   WHERE p.schedule_uid = r.schedule_uid AND p.status = 'posted' AND t.ended_at IS NULL) AS overlaps
    FROM schedule_runs r JOIN schedules s ON s.uid = r.schedule_uid
    WHERE r.status = 'pending' AND (r.claimed_until IS NULL OR r.claimed_until < %(now)s)
      AND NOT EXISTS (SELECT FROM schedule_runs e
                      WHERE e.schedule_uid = r.schedule_uid AND e.status = 'pending' AND e.due_at < r.due_at)
      AND NOT (s.overlap = 'queue' AND EXISTS (
          SELECT FROM schedule_runs p JOIN turns t ON t.id = p.turn_id
          WHERE p.schedule_uid = r.schedule_uid AND p.status = 'posted' AND t.ended_at IS NULL))
    ORDER BY r.due_at LIMIT %(limit)s
    FOR UPDATE OF r SKIP LOCKED
)
UPDATE schedule_runs r SET claimed_until = %(until)s
FROM next JOIN schedules s ON s.uid = next.schedule_uid
WHERE r.schedule_uid = next.schedule_uid AND r.due_at = next.due_at
RETURNING s.*, r.due_at, next.overlaps

-- name: note_run
UPDATE schedule_runs
SET status = %(status)s, reason = %(reason)s, session_id = %(session_id)s, turn_id = %(turn_id)s, claimed_until = NULL,
    noted_at = %(now)s
WHERE schedule_uid = %(uid)s AND due_at = %(due_at)s

-- name: stop_schedule
-- Unless its owner has changed it meanwhile.
UPDATE schedules SET status = 'stopped', status_reason = %(reason)s, next_run_at = NULL
WHERE uid = %(uid)s AND updated_at = %(updated_at)s
