-- What answers say of themselves, what they cost, and what stands for the older part of a conversation.

ALTER TABLE messages
    -- Of a user's message: who wrote it; null in older rows, where its turn knows.
    ADD COLUMN author        text,
    -- Of an answer: stop, tool_calls, length, content_filter, refusal or cancelled; null in older rows.
    ADD COLUMN finish_reason text,
    -- Of an answer: what the model told of its reasoning.
    ADD COLUMN reasoning     text,
    -- Of an answer with calls: what the model's API wants back while the turn goes on (shared/adapters/models/).
    ADD COLUMN kept          jsonb,
    -- Of an answer to a schema: the answer as JSON.
    ADD COLUMN output        jsonb,
    -- Why no model reads it any more: content_filter.
    ADD COLUMN left_out      text;

-- Part of input_tokens and output_tokens. cost_usd: null where a price was not known.
ALTER TABLE turns
    ADD COLUMN cached_input_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN reasoning_tokens    bigint NOT NULL DEFAULT 0,
    ADD COLUMN cost_usd            numeric,
    ADD COLUMN finish_reason       text,
    -- How much of its tokens its session and its user's day have counted: each step counts when it is stored. Old code
    -- counts a turn when it closes; what it has counted twice, while both are live, errs on the safe side.
    ADD COLUMN counted_tokens      bigint NOT NULL DEFAULT 0;

ALTER TABLE sessions ADD COLUMN used_cost_usd numeric NOT NULL DEFAULT 0;

ALTER TABLE token_usage
    ADD COLUMN cached_input_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN reasoning_tokens    bigint NOT NULL DEFAULT 0,
    ADD COLUMN cost_usd            numeric;

ALTER TABLE agents
    ADD COLUMN model_api            text,
    ADD COLUMN model_context_tokens integer,
    ADD COLUMN compact_at           double precision DEFAULT 0.8;

-- What a model reads in the place of everything up to the end of a turn, on each branch whose path leads through it.
CREATE TABLE conversation_summaries (
    session_id  text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    -- Where the turn is; a branch that forked later reads it, too.
    branch      integer NOT NULL,
    turn_number integer NOT NULL,
    content     text NOT NULL,
    tokens      integer NOT NULL,
    -- Of all that it was written from (containment.py).
    sources     text[],
    -- Whose messages it stands for; null is somebody who is not known.
    authors     text[] NOT NULL,
    model       text NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (session_id, branch, turn_number)
);
