-- The session of an id that a front end made up for a conversation. It is a user's own: two users may use the same one.

CREATE TABLE session_threads (
    user_id    text NOT NULL,
    thread     text NOT NULL,
    -- Deferred: the id is claimed before the session is stored, so that of two requests at once the second waits.
    session_id text NOT NULL REFERENCES sessions ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (user_id, thread)
);
CREATE INDEX session_threads_session ON session_threads (session_id);
