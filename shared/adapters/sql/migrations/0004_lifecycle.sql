-- Expiry, erasure, and the indexes without which deleting one session would read the tables of all.

-- Follows from the configuration, so that no writer can forget it. The detour over UTC makes it immutable.
ALTER TABLE sessions ADD COLUMN expires_at timestamptz GENERATED ALWAYS AS (
    (created_at AT TIME ZONE 'UTC' + make_interval(secs => (config ->> 'expires_after_seconds')::double precision))
    AT TIME ZONE 'UTC'
) STORED;
CREATE INDEX sessions_expiring ON sessions (expires_at) WHERE expires_at IS NOT NULL AND status <> 'ENDED';

CREATE INDEX tool_calls_session ON tool_calls (session_id);
CREATE INDEX approvals_turn ON approvals (turn_id);
-- The session in `POST /sessions/{id}/...`, and the session that a request made.
CREATE INDEX idempotency_keys_session ON idempotency_keys (split_part(scope, '/', 3));
CREATE INDEX idempotency_keys_made ON idempotency_keys ((outcome ->> 'session_id')) WHERE outcome ? 'session_id';

-- Sessions being erased: what is left to do when the one who does it is cut. Not bound to the session, which goes first.
CREATE TABLE session_erasures (
    session_id   text PRIMARY KEY,
    owner_id     text NOT NULL,
    requested_at timestamptz NOT NULL,
    attempted_at timestamptz NOT NULL,
    -- Durable instances whose histories are still to be purged; null until the rows of the session are gone.
    instances    text[],
    messages     bigint,
    turns        bigint,
    finished_at  timestamptz
);
CREATE INDEX session_erasures_open ON session_erasures (attempted_at) WHERE finished_at IS NULL;
CREATE INDEX session_erasures_finished ON session_erasures (finished_at) WHERE finished_at IS NOT NULL;
