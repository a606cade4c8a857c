-- What a suspended session holds. Its row is the truth, its orchestrations are made to follow, and a change that was cut
-- in between is found: it is pending until all of them were told. A column of its own, and not two versions that differ:
-- the planner knows how rare true is, and takes the index.

ALTER TABLE sessions
    ADD COLUMN hold_version integer NOT NULL DEFAULT 0,
    ADD COLUMN hold_pending boolean NOT NULL DEFAULT false,
    ADD COLUMN held_at timestamptz;

CREATE INDEX sessions_holds_pending ON sessions (id) WHERE hold_pending;
