-- name: audit_anchor
SELECT audit_lines, audit_hash, audit_at, audit_claims FROM sessions WHERE id = %(session_id)s

-- name: advance_audit
-- Of two who would write the same line one finds that it is taken.
UPDATE sessions SET audit_lines = %(number)s, audit_hash = %(hash)s, audit_at = %(now)s,
    audit_claims = (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(audit_claims)
                    WHERE (value #>> '{}')::timestamptz > %(young)s)
                   || jsonb_build_object(%(number)s::text, %(now)s::timestamptz)
WHERE id = %(session_id)s AND audit_lines = %(number)s - 1 AND audit_hash = %(previous)s
RETURNING id

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
