-- name: audit_anchor
SELECT audit_lines, audit_hash, audit_at, audit_claims FROM sessions WHERE id = %(session_id)s

-- name: lock_audit_head
SELECT id, audit_lines, audit_hash FROM sessions WHERE id = %(session_id)s FOR NO KEY UPDATE

-- name: lock_audit_head_of_tool_call
SELECT s.id, s.audit_lines, s.audit_hash FROM sessions s JOIN tool_calls c ON c.session_id = s.id
WHERE c.id = %(tool_call_id)s FOR NO KEY UPDATE OF s

-- name: lock_audit_head_of_approval
SELECT s.id, s.audit_lines, s.audit_hash FROM sessions s JOIN approvals a ON a.session_id = s.id
WHERE a.id = %(approval_id)s FOR NO KEY UPDATE OF s

-- name: append_audit_lines
-- Under the lock of the session, whose head the lines follow. They are their writer's to forward until they are due.
WITH head AS (
    UPDATE sessions SET audit_lines = %(number)s, audit_hash = %(hash)s, audit_at = %(now)s,
        audit_claims = (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(audit_claims)
                        WHERE (value #>> '{}')::timestamptz > %(young)s OR key::bigint > %(number)s - %(kept)s)
                       || %(claims)s::jsonb
    WHERE id = %(session_id)s
    RETURNING id
)
INSERT INTO audit_outbox (session_id, trail_of, row_key, at, who, action, details, previous, hash, due_at)
SELECT head.id, head.id, line.*, now() + make_interval(secs => %(lease_s)s)
FROM head, unnest(%(row_keys)s::text[], %(ats)s::text[], %(whos)s::text[], %(actions)s::text[], %(detailses)s::text[],
                  %(previouses)s::text[], %(hashes)s::text[]) AS line (row_key, at, who, action, details, previous, hash)

-- name: restore_audit_line
INSERT INTO audit_outbox (session_id, trail_of, row_key, at, who, action, details, previous, hash, due_at)
SELECT id, id, %(row_key)s, %(at)s, %(who)s, %(action)s, %(details)s, %(previous)s, %(hash)s, now()
FROM sessions WHERE id = %(session_id)s
ON CONFLICT (session_id, row_key) DO NOTHING

-- name: audit_lines_waiting
SELECT row_key, at, who, action, details, previous, hash FROM audit_outbox WHERE trail_of = %(session_id)s ORDER BY row_key

-- name: audit_lines_waiting_between
SELECT session_id, row_key, at, who, action, details, previous, hash FROM audit_outbox
WHERE session_id > %(after)s AND (%(up_to)s::text IS NULL OR session_id <= %(up_to)s)
ORDER BY session_id, row_key

-- name: lease_audit_lines
UPDATE audit_outbox SET due_at = now() + make_interval(secs => %(lease_s)s)
WHERE (session_id, row_key) IN (
    SELECT session_id, row_key FROM audit_outbox WHERE due_at <= now() ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING session_id, row_key, at, who, action, details, previous, hash

-- name: confirm_audit_lines
DELETE FROM audit_outbox o
USING unnest(%(session_ids)s::text[], %(row_keys)s::text[], %(hashes)s::text[]) AS done (session_id, row_key, hash)
WHERE o.session_id = done.session_id AND o.row_key = done.row_key AND o.hash = done.hash
RETURNING o.session_id, o.row_key

-- name: erased_sessions
SELECT session_id FROM session_erasures e
WHERE session_id = ANY (%(ids)s) AND NOT EXISTS (SELECT FROM sessions s WHERE s.id = e.session_id)

-- name: refuse_audit_lines
UPDATE audit_outbox o SET refused = true, due_at = now() + make_interval(secs => %(refused_s)s)
FROM unnest(%(session_ids)s::text[], %(row_keys)s::text[]) AS line (session_id, row_key)
WHERE o.session_id = line.session_id AND o.row_key = line.row_key

-- name: audit_outbox_is_late
SELECT EXISTS (SELECT FROM audit_outbox WHERE NOT refused AND queued_at < now() - make_interval(secs => %(late_s)s)) AS late

-- name: begin_audit_verification
-- Of several who find it due one gets it.
UPDATE audit_verification SET begun_at = %(now)s
WHERE begun_at IS NULL OR begun_at <= %(due)s
RETURNING position

-- name: audited_ids_after
-- Everything that has lines by the word of the database, in the order of the lines' table.
SELECT id FROM (
    (SELECT id COLLATE "C" AS id FROM sessions WHERE id COLLATE "C" > %(after)s AND audit_lines > 0
     ORDER BY id COLLATE "C" LIMIT %(limit)s)
    UNION
    (SELECT session_id FROM audit_erasures WHERE session_id > %(after)s ORDER BY session_id LIMIT %(limit)s)
) ids
ORDER BY id LIMIT %(limit)s

-- name: audit_anchors
SELECT id, audit_lines, audit_hash, audit_at, audit_claims FROM sessions WHERE id = ANY (%(ids)s)

-- name: erasure_anchors
SELECT session_id, id, hash, erased_at FROM audit_erasures WHERE session_id = ANY (%(ids)s)

-- name: erased_since
SELECT session_id FROM session_erasures
WHERE session_id = ANY (%(ids)s) AND (finished_at IS NULL OR finished_at >= %(since)s)

-- name: note_audit_findings
INSERT INTO audit_findings (session_id, problems, found_at)
SELECT session_id, problems::jsonb, %(now)s FROM unnest(%(ids)s::text[], %(problems)s::text[]) AS t (session_id, problems)
ON CONFLICT (session_id) DO UPDATE SET problems = excluded.problems, found_at = excluded.found_at
WHERE audit_findings.problems <> excluded.problems
RETURNING session_id

-- name: drop_audit_findings
DELETE FROM audit_findings
WHERE session_id > %(after)s AND (%(up_to)s::text IS NULL OR session_id <= %(up_to)s) AND session_id <> ALL (%(ids)s::text[])

-- name: move_audit_verification
UPDATE audit_verification
SET position = coalesce(%(up_to)s, ''), completed_at = CASE WHEN %(up_to)s::text IS NULL THEN %(now)s ELSE completed_at END

-- name: audit_verification_completed
SELECT completed_at FROM audit_verification
