-- name: audit_anchor
SELECT audit_lines, audit_hash, audit_at FROM sessions WHERE id = %(session_id)s

-- name: advance_audit
-- Of two who would write the same line one finds that it is taken.
UPDATE sessions SET audit_lines = %(number)s, audit_hash = %(hash)s, audit_at = %(now)s
WHERE id = %(session_id)s AND audit_lines = %(number)s - 1 AND audit_hash = %(previous)s
RETURNING id
