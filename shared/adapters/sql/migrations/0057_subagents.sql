-- Subagents: an agent's turn calls another agent, which answers in a session and a turn of its own.
-- sessions: whose call made it; null: of no call. root_session_id: the first of those above it, which is suspended, resumed
-- and shared for all of them. No references: a session that is erased takes those below it along (activities/erasure.py).
-- turns.ancestors: the turns that wait for this one, the first of them first; empty: nobody's child.
--
-- Locks: whoever holds a row of a child may wait for one of its parent, session before turn before wait; never the other way
-- round.

ALTER TABLE agents ADD COLUMN agents text[] NOT NULL DEFAULT '{}';

ALTER TABLE sessions
    ADD COLUMN parent_session_id   text,
    ADD COLUMN parent_turn_id      text,
    ADD COLUMN parent_tool_call_id text,
    ADD COLUMN root_session_id     text;

CREATE UNIQUE INDEX sessions_parent_call ON sessions (parent_tool_call_id) WHERE parent_tool_call_id IS NOT NULL;
CREATE INDEX sessions_parent ON sessions (parent_session_id) WHERE parent_session_id IS NOT NULL;
CREATE INDEX sessions_root ON sessions (root_session_id) WHERE root_session_id IS NOT NULL;

ALTER TABLE turns ADD COLUMN ancestors text[] NOT NULL DEFAULT '{}';

CREATE INDEX turns_ancestors ON turns USING gin (ancestors) WHERE ancestors <> '{}';
CREATE INDEX turns_open_children ON turns (id) WHERE ancestors <> '{}' AND ended_at IS NULL;

-- What statements of every turn call is in plpgsql, which keeps its plans: a function in SQL is planned at each call.

-- Whether a turn above was cancelled, has ended or is gone: then nothing below it begins.
CREATE FUNCTION stopped_above(above text[]) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF above = '{}' THEN
        RETURN false;
    END IF;
    RETURN cardinality(above) > (
        SELECT count(*) FROM turns t JOIN sessions s ON s.id = t.session_id
        WHERE t.id = ANY (above) AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL
          AND s.status IN ('ACTIVE', 'SUSPENDED'));
END
$$;

-- Whether a session above is suspended.
CREATE FUNCTION held_above(above text[]) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF above = '{}' THEN
        RETURN false;
    END IF;
    RETURN EXISTS (
        SELECT FROM turns t JOIN sessions s ON s.id = t.session_id WHERE t.id = ANY (above) AND s.status = 'SUSPENDED');
END
$$;

-- (wait, instance) of the call that a child's turn answers; null: of no call.
CREATE FUNCTION answered_call(turn text) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT ARRAY[w.id, w.instance_id]
        FROM turns t JOIN sessions s ON s.id = t.session_id JOIN tool_waits w ON w.tool_call_id = s.parent_tool_call_id
        WHERE t.id = turn AND t.ancestors <> '{}' AND w.kind = 'agent');
END
$$;

-- What the budgets of the turns and sessions above leave; null: they have none.
CREATE FUNCTION left_above(above text[], OUT tokens bigint, OUT cost_usd numeric) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF above = '{}' THEN
        RETURN;
    END IF;
    SELECT min(least((t.plan ->> 'max_turn_tokens')::bigint - t.input_tokens - t.output_tokens,
                     coalesce((s.config ->> 'max_session_tokens')::bigint, (t.plan ->> 'max_session_tokens')::bigint) - s.used_tokens)),
           min(least((t.plan ->> 'max_turn_cost_usd')::numeric - coalesce(t.cost_usd, 0),
                     coalesce((s.config ->> 'max_session_cost_usd')::numeric, (t.plan ->> 'max_session_cost_usd')::numeric)
                     - s.used_cost_usd))
    INTO tokens, cost_usd
    FROM turns t JOIN sessions s ON s.id = t.session_id
    WHERE t.id = ANY (above);
END
$$;

-- What the choices of addresses of all other turns of the same question have told (shared/sessions/approvals/choices.py).
CREATE FUNCTION bits_beside(turn text, above text[]) RETURNS float8 LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(sum(c.choice_bits), 0)::float8 FROM tool_calls c
    WHERE NOT c.contained AND c.turn_id IN (
        SELECT o.id FROM turns o
        WHERE o.id <> turn AND (o.id = above[1] OR o.ancestors <> '{}' AND o.ancestors @> ARRAY[coalesce(above[1], turn)])));
END
$$;

-- The turns that answer calls of a turn, as clients read of them.
CREATE FUNCTION children_of(turn text) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('tool_call_id', s.parent_tool_call_id, 'agent_id', s.agent_id,
                                                 'session_id', s.id, 'turn_id', c.id, 'status', c.status) ORDER BY c.id), '[]')
    FROM turns c JOIN sessions s ON s.id = c.session_id
    WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[turn] AND s.parent_turn_id = turn);
END
$$;

-- What an open turn waits for: a person, asked by itself or by one below it, or nobody.
CREATE FUNCTION waiting_status(turn text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM approvals a WHERE a.turn_id = turn AND a.status = 'pending')
          OR EXISTS (SELECT FROM turns c WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[turn] AND c.ended_at IS NULL
                     AND c.status = 'waiting_approval') THEN 'waiting_approval'
        WHEN EXISTS (SELECT FROM tool_waits w WHERE w.turn_id = turn AND w.status = 'pending' AND w.kind <> 'agent')
          OR EXISTS (SELECT FROM turns c WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[turn] AND c.ended_at IS NULL
                     AND c.status = 'waiting_input') THEN 'waiting_input'
        ELSE 'running' END
$$;

-- The end of a child answers the call that waits for it, whoever closed it; the status of a child is its parent's, too.
CREATE FUNCTION tell_parent_turn() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parent text := NEW.ancestors[cardinality(NEW.ancestors)];
BEGIN
    -- Locked first, before its waits, as everywhere; and of two children that change at once the second one sees what the first
    -- one did.
    PERFORM FROM turns p WHERE p.id = parent FOR NO KEY UPDATE;
    IF OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL THEN
        UPDATE tool_waits w SET status = 'answered', answer = '{}', ended_at = NEW.ended_at
        FROM sessions s
        WHERE s.id = NEW.session_id AND w.tool_call_id = s.parent_tool_call_id AND w.kind = 'agent' AND w.status = 'pending';
    END IF;
    IF OLD.status IS DISTINCT FROM NEW.status THEN
        UPDATE turns p SET status = waiting_status(parent)
        WHERE p.id = parent AND p.ended_at IS NULL AND p.status IN ('running', 'waiting_approval', 'waiting_input')
          AND p.status <> waiting_status(parent);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER turns_tell_parent AFTER UPDATE OF status, ended_at ON turns FOR EACH ROW
WHEN (NEW.ancestors <> '{}' AND (OLD.status IS DISTINCT FROM NEW.status OR OLD.ended_at IS DISTINCT FROM NEW.ended_at))
EXECUTE FUNCTION tell_parent_turn();

-- Nor does a call wait for a session that was deleted.
CREATE FUNCTION tell_parent_call() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM turns p WHERE p.id = OLD.parent_turn_id FOR NO KEY UPDATE;
    UPDATE tool_waits SET status = 'answered', answer = '{}', ended_at = now()
    WHERE tool_call_id = OLD.parent_tool_call_id AND kind = 'agent' AND status = 'pending';
    UPDATE turns p SET status = waiting_status(p.id)
    WHERE p.id = OLD.parent_turn_id AND p.ended_at IS NULL AND p.status IN ('waiting_approval', 'waiting_input');
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_tell_parent AFTER DELETE ON sessions FOR EACH ROW
WHEN (OLD.parent_tool_call_id IS NOT NULL)
EXECUTE FUNCTION tell_parent_call();

-- A turn whose own waits are over may still wait for people who were asked by one below it.
CREATE FUNCTION keep_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM turns c WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[NEW.id] AND c.ended_at IS NULL
               AND c.status IN ('waiting_approval', 'waiting_input')) THEN
        NEW.status := waiting_status(NEW.id);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER turns_keep_waiting BEFORE UPDATE OF status ON turns FOR EACH ROW
WHEN (NEW.ended_at IS NULL AND OLD.status IN ('waiting_approval', 'waiting_input') AND NEW.status IN ('running', 'waiting_input'))
EXECUTE FUNCTION keep_waiting();

-- What a child uses counts for those above it: for their sessions and turns, and so for their budgets. The user's day counts it
-- where it was used. Before the row is written, and so before the row of the day is locked, which is the last of all locks.
CREATE FUNCTION count_for_parent() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parent text := NEW.ancestors[cardinality(NEW.ancestors)];
    tokens bigint := NEW.input_tokens - OLD.input_tokens + NEW.output_tokens - OLD.output_tokens;
    cost numeric := coalesce(NEW.cost_usd, 0) - coalesce(OLD.cost_usd, 0);
BEGIN
    UPDATE sessions SET used_tokens = used_tokens + tokens, used_cost_usd = used_cost_usd + cost
    WHERE id = (SELECT session_id FROM turns WHERE id = parent);
    UPDATE turns
    SET input_tokens = input_tokens + NEW.input_tokens - OLD.input_tokens,
        output_tokens = output_tokens + NEW.output_tokens - OLD.output_tokens,
        cached_input_tokens = cached_input_tokens + NEW.cached_input_tokens - OLD.cached_input_tokens,
        reasoning_tokens = reasoning_tokens + NEW.reasoning_tokens - OLD.reasoning_tokens,
        counted_tokens = counted_tokens + tokens,
        cost_usd = CASE WHEN NEW.cost_usd IS NULL THEN cost_usd ELSE coalesce(cost_usd, 0) + cost END
    WHERE id = parent;
    RETURN NEW;
END
$$;

CREATE TRIGGER turns_count_for_parent BEFORE UPDATE OF input_tokens, output_tokens, cost_usd ON turns FOR EACH ROW
WHEN (NEW.ancestors <> '{}' AND (NEW.input_tokens, NEW.output_tokens, NEW.cost_usd)
      IS DISTINCT FROM (OLD.input_tokens, OLD.output_tokens, OLD.cost_usd))
EXECUTE FUNCTION count_for_parent();

-- Webhooks tell of turns and sessions that their users know of: of those at the top.
CREATE OR REPLACE FUNCTION asks_its_user(turn text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM tool_waits w
                   WHERE w.status = 'pending' AND w.kind = 'input'
                     AND w.turn_id IN (SELECT turn UNION ALL
                                       SELECT c.id FROM turns c WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[turn]))
$$;

CREATE OR REPLACE TRIGGER turns_told AFTER UPDATE OF status ON turns FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('waiting_approval', 'waiting_input', 'completed', 'failed', 'cancelled')
      AND NEW.ancestors = '{}')
EXECUTE FUNCTION tell_of_turn();

CREATE OR REPLACE TRIGGER sessions_told AFTER UPDATE OF status ON sessions FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status = 'ENDED' AND NEW.parent_session_id IS NULL)
EXECUTE FUNCTION tell_of_session();
