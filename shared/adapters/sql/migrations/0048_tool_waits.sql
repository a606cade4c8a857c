-- What tool calls wait for once they have begun: an answer of the user, or a result from outside. One row for each wait of a
-- call, numbered from 1. request: what is asked, for those who may read the session. state, answer: what the call goes on with;
-- forgotten when it has ended.

CREATE TABLE tool_waits (
    id            text PRIMARY KEY,
    tool_call_id  text NOT NULL REFERENCES tool_calls ON DELETE CASCADE,
    session_id    text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id       text NOT NULL REFERENCES turns ON DELETE CASCADE,
    number        integer NOT NULL,
    tool          text NOT NULL,
    kind          text NOT NULL,
    status        text NOT NULL CHECK (status IN ('pending', 'answered', 'timed_out', 'cancelled')),
    request       json NOT NULL, -- in the order of its fields, which people read
    state         jsonb,
    asked_of      text NOT NULL, -- the user who may answer
    answer        jsonb,
    answer_digest text,
    actions       jsonb, -- by question: accept, decline or cancel
    opened_at     timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    ended_by      text,
    instance_id   text NOT NULL, -- the orchestration that waits
    resumed_at    timestamptz, -- the call has begun to go on with the answer
    resumed_by    text,
    delivered_at  timestamptz,
    UNIQUE (tool_call_id, number)
);

CREATE INDEX tool_waits_session ON tool_waits (session_id);
CREATE INDEX tool_waits_turn ON tool_waits (turn_id);
CREATE INDEX tool_waits_undelivered ON tool_waits (ended_at) WHERE ended_at IS NOT NULL AND delivered_at IS NULL;

ALTER TABLE turns DROP CONSTRAINT turns_status_check, ADD CONSTRAINT turns_status_check CHECK (status IN
    ('queued', 'running', 'waiting_approval', 'waiting_input', 'completed', 'failed', 'cancelled')) NOT VALID;
ALTER TABLE turns VALIDATE CONSTRAINT turns_status_check;
