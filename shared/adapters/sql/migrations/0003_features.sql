-- A person's own tags and session templates; those of the system are code (shared/sessions/features/presets.py).

CREATE TABLE tags (
    owner_id    text NOT NULL,
    name        text NOT NULL,
    color       text,
    description text,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (owner_id, name)
);

CREATE TABLE session_templates (
    id           text PRIMARY KEY,
    owner_id     text NOT NULL,
    name         text NOT NULL,
    description  text,
    session_name text,
    agent_id     text,
    -- Only the fields its author set: the others stay what the app's default is on the day of use.
    config       jsonb NOT NULL,
    tags         text[] NOT NULL,
    metadata     jsonb NOT NULL,
    created_at   timestamptz NOT NULL,
    UNIQUE (owner_id, name)
);
