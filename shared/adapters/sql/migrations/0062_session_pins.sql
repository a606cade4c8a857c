-- Sessions that a user keeps at the top of their list. A pin is its user's own: others in the session do not see it.

CREATE TABLE session_pins (
    user_id    text NOT NULL,
    session_id text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    pinned_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, session_id)
);
CREATE INDEX session_pins_session ON session_pins (session_id);
