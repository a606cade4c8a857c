-- What sessions talk to. Versions are only ever added: a turn that waits finishes with the one it began with, and what
-- an agent was when it said something stays known.
CREATE TABLE agents (
    id           text NOT NULL,
    version      integer NOT NULL CHECK (version > 0),
    name         text NOT NULL,
    description  text,
    instructions text NOT NULL,
    model        text,
    -- Null: every tool there is, those to come included.
    tools        text[],
    -- Tool name to approval policy; only for tools that the agent says something about.
    policies     jsonb NOT NULL,
    -- Only the settings its author set: the others stay what the app's default is on the day of use.
    defaults     jsonb NOT NULL,
    vision       boolean NOT NULL,
    created_at   timestamptz NOT NULL,
    created_by   text NOT NULL,
    PRIMARY KEY (id, version)
);
