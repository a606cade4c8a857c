-- Subagents in the background: the call of one ends at once, its caller's turn goes on and may end, and its result comes into the
-- session of the caller as a message.
-- agents.background_agents: of `agents`, those whose calls nobody waits for.
-- sessions.background_until: of a subagent in the background, when it is cancelled; null: its call waits for it. result_told_at:
-- its result was delivered, or is not wanted any more; stored with the message that tells it, so there is one.
-- turns.in_background: the turn of a subagent in the background, and all below it. What these wait for, their caller does not.
-- messages.from_subagent: the result that the message tells. Its content is a sentence of ours, and what a model reads of the
-- result is in attachment_note: so nothing that a subagent wrote stands where the words of users do.

ALTER TABLE agents ADD COLUMN background_agents text[] NOT NULL DEFAULT '{}';
ALTER TABLE sessions ADD COLUMN background_until timestamptz, ADD COLUMN result_told_at timestamptz;
ALTER TABLE turns ADD COLUMN in_background boolean NOT NULL DEFAULT false;
ALTER TABLE messages ADD COLUMN from_subagent jsonb;

CREATE INDEX sessions_background ON sessions (parent_session_id) WHERE background_until IS NOT NULL AND result_told_at IS NULL;

-- A turn above that has completed had nothing left that it waited for: what is still open below it works in the background, and
-- goes on. One that was cancelled or has failed takes all of it along.
CREATE OR REPLACE FUNCTION stopped_above(above text[]) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF above = '{}' THEN
        RETURN false;
    END IF;
    RETURN cardinality(above) > (
        SELECT count(*) FROM turns t JOIN sessions s ON s.id = t.session_id
        WHERE t.id = ANY (above) AND s.status IN ('ACTIVE', 'SUSPENDED')
          AND (t.status = 'completed' OR t.ended_at IS NULL AND t.cancel_requested_at IS NULL));
END
$$;

-- Below a turn at the top, what is in the background holds nobody but itself; below such a one, all of it counts.
CREATE OR REPLACE FUNCTION waiting_status(turn text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    is_within boolean := (SELECT t.in_background FROM turns t WHERE t.id = turn);
BEGIN
    RETURN CASE
        WHEN EXISTS (SELECT FROM approvals a WHERE a.turn_id = turn AND a.status = 'pending')
          OR EXISTS (SELECT FROM turns c WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[turn] AND c.ended_at IS NULL
                     AND c.in_background = is_within AND c.status = 'waiting_approval') THEN 'waiting_approval'
        WHEN EXISTS (SELECT FROM tool_waits w WHERE w.turn_id = turn AND w.status = 'pending' AND w.kind <> 'agent')
          OR EXISTS (SELECT FROM turns c WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[turn] AND c.ended_at IS NULL
                     AND c.in_background = is_within AND c.status = 'waiting_input') THEN 'waiting_input'
        ELSE 'running' END;
END
$$;

CREATE OR REPLACE FUNCTION keep_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ended_at IS NULL AND NEW.status IN ('running', 'waiting_input')
       AND EXISTS (SELECT FROM turns c WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[NEW.id] AND c.ended_at IS NULL
                   AND c.in_background = NEW.in_background AND c.status IN ('waiting_approval', 'waiting_input')) THEN
        NEW.status := waiting_status(NEW.id);
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION children_of(turn text) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('tool_call_id', s.parent_tool_call_id, 'agent_id', s.agent_id,
                                                 'session_id', s.id, 'turn_id', c.id, 'status', c.status,
                                                 'background', s.background_until IS NOT NULL) ORDER BY c.id), '[]')
    FROM turns c JOIN sessions s ON s.id = c.session_id
    WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[turn] AND s.parent_turn_id = turn);
END
$$;
