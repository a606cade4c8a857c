-- Sessions, messages, turns, tool calls, approvals. Text ids are UUIDv7 made by the app (or chosen by a client).

CREATE TABLE sessions (
    id                  text PRIMARY KEY,
    owner_id            text NOT NULL,
    name                text,
    status              text NOT NULL CHECK (status IN ('CREATED', 'ACTIVE', 'SUSPENDED', 'ENDED')),
    agent_id            text,
    config              jsonb NOT NULL,
    tags                text[] NOT NULL DEFAULT '{}',
    metadata            jsonb NOT NULL DEFAULT '{}',
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    ended_at            timestamptz,
    -- Numbers handed out under the row lock of this session.
    last_message_number bigint NOT NULL DEFAULT 0,
    last_turn_number    integer NOT NULL DEFAULT 0,
    -- Event numbers up to the ceiling may be assigned by Redis; floor is where it starts again when it
    -- has lost the counter, so that a number is never given twice (shared/sessions/events.py).
    event_seq_ceiling   bigint NOT NULL,
    event_seq_floor     bigint NOT NULL DEFAULT 0
);
CREATE INDEX sessions_owner ON sessions (owner_id, created_at DESC, id DESC);
CREATE INDEX sessions_tags ON sessions USING gin (tags);

CREATE TABLE session_participants (
    session_id text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    user_id    text NOT NULL,
    access     text NOT NULL CHECK (access IN ('read', 'write')),
    added_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, user_id)
);
CREATE INDEX session_participants_user ON session_participants (user_id, session_id);

CREATE TABLE turns (
    id                  text PRIMARY KEY,
    session_id          text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    number              integer NOT NULL,
    message_id          text NOT NULL,
    requested_by        text NOT NULL,
    status              text NOT NULL CHECK (status IN
                            ('queued', 'running', 'waiting_approval', 'completed', 'failed', 'cancelled')),
    -- What the turn runs with, frozen when it was queued: later changes of session or agent do not touch it.
    plan                jsonb NOT NULL,
    steps               integer NOT NULL DEFAULT 0,
    input_tokens        bigint NOT NULL DEFAULT 0,
    output_tokens       bigint NOT NULL DEFAULT 0,
    error_code          text,
    error_detail        text,
    created_at          timestamptz NOT NULL,
    started_at          timestamptz,
    ended_at            timestamptz,
    -- When its orchestration was last asked for; null while it waits behind another turn.
    dispatched_at       timestamptz,
    cancel_requested_at timestamptz,
    UNIQUE (session_id, number)
);
-- At most one turn of a session runs: two dispatchers racing for the next one cannot both win.
CREATE UNIQUE INDEX turns_one_dispatched ON turns (session_id)
    WHERE dispatched_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX turns_open ON turns (session_id, number) WHERE ended_at IS NULL;

CREATE TABLE messages (
    id           text PRIMARY KEY,
    session_id   text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id      text REFERENCES turns ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    -- Arrival within the session: what lists are ordered and paged by.
    number       bigint NOT NULL,
    -- Conversation order, what a model reads: by turn, then step, then place in the step. They differ when
    -- a message was queued while an earlier turn still ran.
    turn_number  integer NOT NULL,
    -- 0 is the user's message; the model's n-th answer of the turn and that answer's tool results are n.
    step         integer NOT NULL,
    -- 0 is the assistant's message, n the result of its n-th tool call.
    ordinal      integer NOT NULL,
    role         text NOT NULL CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    content      text NOT NULL,
    status       text NOT NULL CHECK (status IN ('streaming', 'completed', 'cancelled', 'failed')),
    -- For role tool: which call it answers.
    tool_call_id text,
    -- For role assistant: the calls as the model made them, [{"id","name","arguments"}]; provider ids.
    calls        jsonb,
    -- How often the step was begun; a stream of a higher attempt replaces the text of a lower one.
    attempt      integer NOT NULL DEFAULT 1,
    tokens       integer NOT NULL,
    created_at   timestamptz NOT NULL,
    UNIQUE (session_id, number)
);
CREATE UNIQUE INDEX messages_turn_step ON messages (turn_id, step, ordinal);
CREATE INDEX messages_context ON messages (session_id, turn_number DESC, step DESC, ordinal DESC);

CREATE TABLE tool_calls (
    id               text PRIMARY KEY,
    session_id       text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id          text NOT NULL REFERENCES turns ON DELETE CASCADE,
    message_id       text NOT NULL REFERENCES messages ON DELETE CASCADE,
    step             integer NOT NULL,
    ordinal          integer NOT NULL,
    provider_call_id text NOT NULL,
    name             text NOT NULL,
    arguments        jsonb NOT NULL,
    -- Why the model's arguments could not be read or accepted; such a call never runs.
    argument_error   text,
    needs_approval   boolean NOT NULL,
    status           text NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'completed', 'failed')),
    result           jsonb,
    error_code       text,
    -- Set before a tool runs, in a transaction of its own: a call found begun but not ended after a crash
    -- may have had its effect.
    begun_at         timestamptz,
    ended_at         timestamptz,
    UNIQUE (turn_id, step, ordinal)
);
CREATE INDEX tool_calls_message ON tool_calls (message_id);

CREATE TABLE approvals (
    id                text PRIMARY KEY,
    tool_call_id      text NOT NULL UNIQUE REFERENCES tool_calls ON DELETE CASCADE,
    session_id        text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id           text NOT NULL REFERENCES turns ON DELETE CASCADE,
    tool              text NOT NULL,
    arguments         jsonb NOT NULL,
    -- SHA-256 of the canonical JSON of what may run; compared again before it runs.
    arguments_digest  text NOT NULL,
    decided_arguments jsonb,
    status            text NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'timed_out', 'cancelled')),
    requested_by      text NOT NULL,
    requested_at      timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL,
    decided_by        text,
    decided_at        timestamptz,
    comment           text,
    -- The orchestration that waits, and when it confirmed that it knows the outcome.
    instance_id       text NOT NULL,
    delivered_at      timestamptz
);
CREATE INDEX approvals_session ON approvals (session_id, id DESC);
CREATE INDEX approvals_pending ON approvals (expires_at) WHERE status = 'pending';
CREATE INDEX approvals_undelivered ON approvals (decided_at) WHERE decided_at IS NOT NULL AND delivered_at IS NULL;

CREATE TABLE idempotency_keys (
    user_id      text NOT NULL,
    -- Which operation on which resource; the same key on another one is another key.
    scope        text NOT NULL,
    key          text NOT NULL,
    request_hash text NOT NULL,
    -- What the first request made, for answering the second: {"session_id"} or {"message_id", "turn_id"}.
    outcome      jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, scope, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
