-- name: insert_checkpoint
-- The session is locked.
INSERT INTO session_checkpoints (session_id, id, branch, turn_number, automatic, label, name, status, agent_id, config,
                                 tags, metadata, created_at)
SELECT id, %(checkpoint_id)s, active_branch, last_turn_number, false, %(label)s, name, status, agent_id, config, tags,
       metadata, %(now)s
FROM sessions WHERE id = %(session_id)s
RETURNING *, NULL AS before_turn_id

-- name: forget_oldest_on_demand
DELETE FROM session_checkpoints
WHERE session_id = %(session_id)s AND id IN (
    SELECT id FROM session_checkpoints WHERE session_id = %(session_id)s AND NOT automatic
    ORDER BY created_at DESC, id DESC OFFSET %(kept)s)

-- name: checkpoints
SELECT c.*, (SELECT t.id FROM turns t
             WHERE c.automatic AND t.session_id = c.session_id AND t.number = c.turn_number + 1) AS before_turn_id
FROM session_checkpoints c
WHERE c.session_id = %(session_id)s
  AND (%(after_at)s::timestamptz IS NULL OR (c.created_at, c.id) < (%(after_at)s, %(after_id)s))
ORDER BY c.created_at DESC, c.id DESC
LIMIT %(limit)s

-- name: checkpoint
SELECT c.*, NULL AS before_turn_id FROM session_checkpoints c
WHERE c.session_id = %(session_id)s AND c.id = %(checkpoint_id)s

-- name: last_step
-- The last step that a branch reads up to the end of a turn, and whether its own branch goes on behind it. No row when
-- there is none: the conversation began later.
SELECT part.branch, last.turn_number, last.step,
       EXISTS (SELECT 1 FROM messages m
               WHERE m.session_id = %(session_id)s AND m.branch = part.branch
                 AND (m.turn_number, m.step) > (last.turn_number, last.step)) AS goes_on
FROM branch_path(%(session_id)s, %(branch)s, %(turn_number)s, 2147483647) part
CROSS JOIN LATERAL (
    SELECT m.turn_number, m.step FROM messages m
    WHERE m.session_id = %(session_id)s AND m.branch = part.branch
      AND (m.turn_number, m.step) <= (part.turn_number, part.step)
    ORDER BY m.turn_number DESC, m.step DESC
    LIMIT 1
) last
ORDER BY last.turn_number DESC, last.step DESC
LIMIT 1

-- name: empty_branch
-- One that forks there and has said nothing yet.
SELECT b.branch FROM session_branches b
WHERE b.session_id = %(session_id)s AND b.parent_branch = %(parent_branch)s
  AND b.fork_turn_number = %(fork_turn_number)s AND b.fork_step = %(fork_step)s
  AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.session_id = b.session_id AND m.branch = b.branch)
ORDER BY b.branch DESC
LIMIT 1

-- name: has_messages
SELECT EXISTS (SELECT 1 FROM messages WHERE session_id = %(session_id)s AND branch = %(branch)s) AS found

-- name: insert_branch
-- The session is locked, and counts it when it is recovered.
INSERT INTO session_branches (session_id, branch, parent_branch, fork_turn_number, fork_step, created_at)
VALUES (%(session_id)s, %(branch)s, %(parent_branch)s, %(fork_turn_number)s, %(fork_step)s, %(now)s)

-- name: recover_session
UPDATE sessions
SET name = %(name)s, status = %(status)s, agent_id = %(agent_id)s, agent_version = %(agent_version)s::integer,
    agent_draft = CASE WHEN %(agent_version)s::integer = 0 THEN agent_draft END, config = %(config)s, tags = %(tags)s,
    metadata = %(metadata)s, active_branch = %(branch)s, last_branch = greatest(last_branch, %(branch)s),
    updated_at = %(now)s
WHERE id = %(session_id)s
RETURNING *, %(access)s::text AS access

-- name: forget_old_checkpoints
-- Those on demand are kept longer; said so that the index over ages serves both.
DELETE FROM session_checkpoints
WHERE created_at < %(before)s AND (automatic OR created_at < %(on_demand_before)s)

-- name: forget_surplus_checkpoints
-- There is one before every turn, so the number of its turn tells how many are newer.
DELETE FROM session_checkpoints c
USING sessions s
WHERE s.id IN (SELECT session_id FROM session_checkpoints WHERE automatic AND created_at >= %(since)s)
  AND c.session_id = s.id AND c.automatic AND c.turn_number < s.last_turn_number - %(kept)s
