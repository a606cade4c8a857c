-- name: insert_regenerated_turn
-- The session is locked. left_branch is the one that was active: the checkpoint before the turn stands on it.
WITH session AS (
    UPDATE sessions
    SET last_branch = last_branch + 1, active_branch = last_branch + 1, last_turn_number = last_turn_number + 1,
        status = 'ACTIVE', updated_at = %(now)s
    WHERE id = %(session_id)s
    RETURNING *
), branch AS (
    INSERT INTO session_branches (session_id, branch, parent_branch, fork_turn_number, fork_step, created_at)
    SELECT id, active_branch, %(parent_branch)s, %(fork_turn_number)s, %(fork_step)s, %(now)s FROM session
), checkpoint AS (
    INSERT INTO session_checkpoints (session_id, id, branch, turn_number, automatic, name, status, agent_id, config, tags,
                                     metadata, created_at)
    SELECT id, %(checkpoint_id)s, %(left_branch)s, last_turn_number - 1, true, name, status, agent_id, config, tags,
           metadata, %(now)s
    FROM session
)
INSERT INTO turns (id, session_id, number, branch, message_id, requested_by, status, plan, created_at, dispatched_at,
                   quiet_until)
SELECT %(turn_id)s, id, last_turn_number, active_branch, %(message_id)s, %(user_id)s, 'queued', %(plan)s, %(now)s,
       CASE WHEN %(dispatch)s THEN %(now)s::timestamptz END, %(now)s
FROM session

-- name: begin_branch
-- The session is locked. The branch becomes the active one.
WITH session AS (
    UPDATE sessions SET last_branch = last_branch + 1, active_branch = last_branch + 1
    WHERE id = %(session_id)s
    RETURNING id, active_branch
)
INSERT INTO session_branches (session_id, branch, parent_branch, fork_turn_number, fork_step, created_at)
SELECT id, active_branch, %(parent_branch)s, %(fork_turn_number)s, %(fork_step)s, %(now)s FROM session

-- name: branches
WITH branch AS (
    SELECT 0 AS branch, NULL::integer AS parent_branch, NULL::integer AS fork_turn_number, NULL::integer AS fork_step,
           created_at
    FROM sessions WHERE id = %(session_id)s
    UNION ALL
    SELECT branch, parent_branch, fork_turn_number, fork_step, created_at
    FROM session_branches WHERE session_id = %(session_id)s
), page AS (
    SELECT * FROM branch WHERE branch > %(after)s ORDER BY branch LIMIT %(limit)s
)
SELECT page.branch, page.parent_branch, page.created_at, page.branch = s.active_branch AS active,
       (SELECT m.id FROM messages m
        WHERE m.session_id = s.id AND m.branch = page.parent_branch AND m.turn_number = page.fork_turn_number
          AND m.step = page.fork_step
        ORDER BY m.ordinal DESC LIMIT 1) AS fork_message_id,
       (SELECT count(*) FROM messages m WHERE m.session_id = s.id AND m.branch = page.branch) AS message_count
FROM page JOIN sessions s ON s.id = %(session_id)s
ORDER BY page.branch

-- name: set_active_branch
UPDATE sessions SET active_branch = %(branch)s, updated_at = %(now)s
WHERE id = %(session_id)s
RETURNING *, %(access)s::text AS access
