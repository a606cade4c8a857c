-- Branches of a session, checkpoints, forks.
--
-- Every message and turn is on one branch. A branch reads its own messages, and before them those of its parent up to
-- and including the step it forked at, and so on to branch 0, which is simply there. Turn numbers only grow within a
-- session, so along any such path (turn_number, step, ordinal) is the order of the conversation.

ALTER TABLE sessions
    ADD COLUMN active_branch integer NOT NULL DEFAULT 0, -- where the next message goes
    ADD COLUMN last_branch   integer NOT NULL DEFAULT 0, -- the newest number given, under the row lock
    -- The session this one was copied from. No foreign key: the copy outlives it.
    ADD COLUMN forked_from   text;
ALTER TABLE turns ADD COLUMN branch integer NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN branch integer NOT NULL DEFAULT 0;

CREATE TABLE session_branches (
    session_id       text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    branch           integer NOT NULL CHECK (branch > 0),
    parent_branch    integer NOT NULL CHECK (parent_branch >= 0),
    -- The last step read of the parent, one of its own or of its ancestors; 0, 0 when it begins with nothing.
    fork_turn_number integer NOT NULL,
    fork_step        integer NOT NULL,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (session_id, branch),
    CHECK (parent_branch < branch) -- so that every path ends at branch 0
);

CREATE INDEX messages_path ON messages (session_id, branch, turn_number DESC, step DESC, ordinal DESC);
DROP INDEX messages_context;

-- What a reader of a branch reads up to (and including) a step: how far on which branch. For branch 0 one row, for
-- others one more per fork; the parts follow each other in the conversation without overlapping.
CREATE FUNCTION branch_path(of_session text, of_branch integer, last_turn_number integer, last_step integer)
RETURNS TABLE (branch integer, turn_number integer, step integer)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH RECURSIVE path AS (
        SELECT of_branch AS branch, last_turn_number AS turn_number, last_step AS step
        UNION ALL
        SELECT b.parent_branch, b.fork_turn_number, b.fork_step
        FROM path JOIN session_branches b ON b.session_id = of_session AND b.branch = path.branch
    )
    SELECT path.branch, path.turn_number, path.step FROM path
$$;

-- A place to come back to: behind a turn of a branch, with what the session was like there.
CREATE TABLE session_checkpoints (
    session_id  text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    id          text NOT NULL,
    -- Everything the branch reads up to the end of this turn; 0 is before the first one.
    branch      integer NOT NULL,
    turn_number integer NOT NULL,
    -- Taken before the turn with the next number, by the statement that stored that turn.
    automatic   boolean NOT NULL,
    label       text,
    name        text,
    status      text NOT NULL,
    agent_id    text,
    config      jsonb NOT NULL,
    tags        text[] NOT NULL,
    metadata    jsonb NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (session_id, id)
);
-- Rows come in order of time: blocks are enough to find the old ones and the new ones, and cost a writer nothing.
CREATE INDEX session_checkpoints_age ON session_checkpoints USING brin (created_at) WITH (pages_per_range = 32);
