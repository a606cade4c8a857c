-- Who joined which connection to a session's group. SignalR does not say whose a connection is, so what a user has joined
-- is written down, and taken out again when they lose the right to read (shared/sessions/live/subscriptions.py).

CREATE TABLE session_subscriptions (
    session_id    text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    user_id       text NOT NULL,
    -- Empty: every connection of the user.
    connection_id text NOT NULL,
    joined_at     timestamptz NOT NULL,
    -- Set when it must be taken out of the group; the row goes once that has been said often enough.
    ended_at      timestamptz,
    PRIMARY KEY (session_id, user_id, connection_id)
);
CREATE INDEX session_subscriptions_ended ON session_subscriptions (ended_at) WHERE ended_at IS NOT NULL;
