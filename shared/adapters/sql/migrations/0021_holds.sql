-- What a suspended session holds. Its row is the truth, its orchestrations are made to follow, and a change that was cut
-- in between is found: hold_settled is the last version that they were told.

ALTER TABLE sessions
    ADD COLUMN hold_version integer NOT NULL DEFAULT 0,
    ADD COLUMN hold_settled integer NOT NULL DEFAULT 0,
    ADD COLUMN held_at timestamptz;

CREATE INDEX sessions_holds_unsettled ON sessions (id) WHERE hold_settled <> hold_version;
