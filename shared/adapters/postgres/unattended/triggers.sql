-- name: put_trigger
-- xmax is 0 in a row that this statement has inserted. The limit may be passed by as many as come at the very same time: it
-- bounds abuse, nothing else hangs on it.
INSERT INTO triggers (uid, owner_id, id, name, content, session_id, agent_id, config, approval_mode, concurrency, sources,
                      status, secret_version, secret_key_id, secret_made_at, created_at, updated_at)
SELECT %(uid)s, %(owner_id)s, %(id)s, %(name)s, %(content)s, %(session_id)s, %(agent_id)s, %(config)s, %(approval_mode)s,
       %(concurrency)s, %(sources)s, %(status)s, 1, %(key_id)s, %(now)s, %(now)s, %(now)s
WHERE (SELECT count(*) FROM triggers WHERE owner_id = %(owner_id)s AND id <> %(id)s) < %(limit)s
ON CONFLICT (owner_id, id) DO UPDATE
SET name = excluded.name, content = excluded.content, session_id = excluded.session_id, agent_id = excluded.agent_id,
    config = excluded.config, approval_mode = excluded.approval_mode, concurrency = excluded.concurrency,
    sources = excluded.sources, status = excluded.status, status_reason = NULL, updated_at = excluded.updated_at
RETURNING *, xmax = 0 AS is_new

-- name: trigger
SELECT * FROM triggers WHERE owner_id = %(owner_id)s AND id = %(id)s

-- name: trigger_by_uid
SELECT * FROM triggers WHERE uid = %(uid)s

-- name: triggers_of_owner
SELECT * FROM triggers WHERE owner_id = %(owner_id)s ORDER BY id COLLATE "C" LIMIT %(limit)s

-- name: delete_trigger
DELETE FROM triggers WHERE owner_id = %(owner_id)s AND id = %(id)s RETURNING uid

-- name: rotate_secret
UPDATE triggers
SET old_key_id = secret_key_id, old_until = %(old_until)s, secret_version = secret_version + 1, secret_key_id = %(key_id)s,
    secret_made_at = %(now)s
WHERE owner_id = %(owner_id)s AND id = %(id)s
RETURNING *

-- name: note_fired
UPDATE triggers SET last_fired_at = %(now)s, last_session_id = %(session_id)s, last_turn_id = %(turn_id)s
WHERE uid = %(uid)s

-- name: note_refused
-- It stops unless its owner has changed it meanwhile.
UPDATE triggers
SET last_refused_at = %(now)s, last_refusal = %(reason)s,
    status = CASE WHEN %(stopping)s AND updated_at = %(updated_at)s THEN 'stopped' ELSE status END,
    status_reason = CASE WHEN %(stopping)s AND updated_at = %(updated_at)s THEN %(reason)s ELSE status_reason END
WHERE uid = %(uid)s
