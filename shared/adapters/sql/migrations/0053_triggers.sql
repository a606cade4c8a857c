-- Triggers. uid is in the address that webhooks are sent to. No secret is stored: it follows from uid, its version and a key of
-- the app.

CREATE TABLE triggers (
    uid             text PRIMARY KEY,
    owner_id        text NOT NULL,
    id              text NOT NULL,
    name            text,
    content         text NOT NULL,
    session_id      text, -- null: a new session each time. No reference: a session that is erased stops its triggers.
    agent_id        text,
    config          jsonb NOT NULL,
    approval_mode   text,
    concurrency     text,
    status          text NOT NULL,
    status_reason   text,
    secret_version  integer NOT NULL,
    secret_key_id   text NOT NULL,
    secret_made_at  timestamptz NOT NULL,
    old_key_id      text, -- of the version before, which is good until then
    old_until       timestamptz,
    last_fired_at   timestamptz,
    last_session_id text,
    last_turn_id    text,
    last_refused_at timestamptz,
    last_refusal    text,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    UNIQUE (owner_id, id)
);
