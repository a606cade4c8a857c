-- The newest line of a session's audit trail, kept where who can write the trail's table cannot: it numbers the lines, and
-- shows that one is missing even when it was the last.
ALTER TABLE sessions ADD COLUMN audit_lines bigint NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN audit_hash text NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN audit_at timestamptz;
