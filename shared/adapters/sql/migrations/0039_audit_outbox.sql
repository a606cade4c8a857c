-- Audit lines that are not in the trail's table yet: numbered, sealed and stored with what they tell, deleted when the table has
-- them. Older code neither writes nor reads them; it goes on with the numbers and seals in the sessions' rows.

CREATE TABLE audit_outbox (
    session_id  text COLLATE "C" NOT NULL,
    row_key     text COLLATE "C" NOT NULL,
    trail_of    text REFERENCES sessions (id) ON DELETE CASCADE, -- NULL: the line that remains of an erased session
    at          text NOT NULL, -- as they were sealed, like all that follow
    who         text NOT NULL,
    action      text NOT NULL,
    details     text NOT NULL,
    previous    text NOT NULL,
    hash        text NOT NULL,
    queued_at   timestamptz NOT NULL DEFAULT now(),
    due_at      timestamptz NOT NULL, -- until then it is somebody's to write
    refused     boolean NOT NULL DEFAULT false, -- its place is taken, or it is not what was sealed
    PRIMARY KEY (session_id, row_key)
);
CREATE INDEX audit_outbox_trail ON audit_outbox (trail_of);
CREATE INDEX audit_outbox_due ON audit_outbox (due_at);
CREATE INDEX audit_outbox_waiting ON audit_outbox (queued_at) WHERE NOT refused;
