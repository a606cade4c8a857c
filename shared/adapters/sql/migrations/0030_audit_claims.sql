-- When the newest lines of a trail were claimed, by number, so that a missing line is judged by its own age and not by that of the
-- line after it. Lines of an older version of the code have no entry; the newest line's time is in audit_at.

ALTER TABLE sessions ADD COLUMN audit_claims jsonb NOT NULL DEFAULT '{}';

-- The line that remains of each erased session, kept where who can write the trail's table cannot. It outlives its session.

CREATE TABLE audit_erasures (
    id          text PRIMARY KEY,
    session_id  text COLLATE "C" NOT NULL,
    hash        text NOT NULL,
    erased_at   timestamptz NOT NULL
);
CREATE INDEX audit_erasures_session ON audit_erasures (session_id);

-- The trails that are damaged, as the verification of all trails last saw them.

CREATE TABLE audit_findings (
    session_id  text COLLATE "C" PRIMARY KEY,
    problems    jsonb NOT NULL,
    found_at    timestamptz NOT NULL
);
CREATE INDEX audit_findings_page ON audit_findings (found_at, session_id);

-- How far the verification of all trails has come; one row.

CREATE TABLE audit_verification (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    begun_at      timestamptz,
    position      text NOT NULL DEFAULT '',
    completed_at  timestamptz
);
INSERT INTO audit_verification DEFAULT VALUES;

-- Azure Tables returns partitions in the order of their bytes; the verification reads both in one order.

CREATE INDEX sessions_by_bytes ON sessions (id COLLATE "C");
