-- An age limit on sessions, where the operator sets one (shared/sessions/life/retention.py). Each index is written when a
-- session is made or ends, never when a message is posted.

CREATE INDEX sessions_ended ON sessions (ended_at) WHERE status = 'ENDED';
-- Rows come in order of time: blocks are enough to find the old ones.
CREATE INDEX sessions_age ON sessions USING brin (created_at) WITH (pages_per_range = 32);

-- Who asked for an erasure: nobody did when the session was only too old.
ALTER TABLE session_erasures ADD COLUMN by_retention boolean NOT NULL DEFAULT false;
