-- What every turn asks of the store, as functions in plpgsql (docs/decisions/0065-what-every-turn-asks-is-in-functions.md): their
-- statements are small, look each row up by its key, and are planned once per connection. What a turn does not need, as a
-- reservation, is not even set up. One statement of the same with a dozen parts had plans that read all active sessions, and
-- setting it up took as long as running it.
--
-- The version before this one runs beside a new one and calls its functions: one that is changed gets a new name.

-- A step of a turn begins, or begins again: message_id is null when it does not (shared/adapters/postgres/turns/steps.sql).
-- The session is locked before the turn, as everywhere: a cancel that comes at the same time waits, and is not killed.
-- A turn acts for its user: one that was posted while they were taken out, and so not cancelled, goes no further. Nor does one
-- whose session is suspended, whatever its orchestration has heard of that.
CREATE FUNCTION begin_turn_step(
    of_turn text, of_step integer, new_message_id text, at timestamptz, quiet timestamptz, of_day date, at_s float8, until_s float8,
    day_tokens bigint, day_cost_usd numeric,
    OUT session_id text, OUT requested_by text, OUT plan jsonb, OUT event_seq_floor bigint, OUT event_seq_ceiling bigint,
    OUT incarnation text, OUT granted_tools text[], OUT message_id text, OUT attempt integer,
    OUT message_created_at timestamptz, OUT turn_tokens bigint, OUT uncounted_tokens bigint, OUT session_tokens bigint,
    OUT max_session_tokens bigint, OUT turn_cost_usd numeric, OUT session_cost_usd numeric, OUT max_session_cost_usd float8,
    OUT user_day_tokens bigint, OUT user_day_cost_usd numeric, OUT reserved jsonb, OUT subscribed_ms bigint,
    OUT declined_digests text[], OUT spent_bits float8, OUT tokens_left_above bigint, OUT cost_left_above_usd numeric
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    t record;
    s record;
    is_stored boolean;
    has_calls boolean;
BEGIN
    SELECT o.session_id, o.requested_by, o.ancestors INTO t FROM turns o
    WHERE o.id = of_turn AND o.ended_at IS NULL AND o.cancel_requested_at IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF t.ancestors <> '{}' AND (stopped_above(t.ancestors) OR held_above(t.ancestors)) THEN
        RETURN;
    END IF;
    UPDATE sessions o SET last_message_number = o.last_message_number + 1
    WHERE o.id = t.session_id AND o.status = 'ACTIVE'
      AND (o.owner_id = t.requested_by OR EXISTS (
          SELECT FROM session_participants p
          WHERE p.session_id = coalesce(o.root_session_id, o.id) AND p.user_id = t.requested_by AND p.access = 'write'))
    RETURNING o.last_message_number, o.event_seq_floor, o.event_seq_ceiling, o.incarnation, o.used_tokens, o.used_cost_usd,
              o.granted_tools, o.config INTO s;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    is_stored := EXISTS (SELECT FROM messages m
                         WHERE m.turn_id = of_turn AND m.step = of_step AND m.ordinal = 0 AND m.status <> 'streaming');
    -- A step that is stored is only said again.
    UPDATE turns o
    SET status = 'running', started_at = coalesce(o.started_at, at), steps = greatest(o.steps, of_step),
        quiet_until = CASE WHEN is_stored THEN o.quiet_until ELSE quiet END
    WHERE o.id = of_turn AND o.ended_at IS NULL AND o.cancel_requested_at IS NULL
    RETURNING o.session_id, o.number, o.branch, o.requested_by, o.plan, o.input_tokens + o.output_tokens AS used_tokens,
              o.counted_tokens, o.cost_usd, o.ancestors INTO t;
    IF NOT FOUND OR is_stored THEN
        RETURN;
    END IF;
    INSERT INTO messages AS m (id, session_id, turn_id, number, branch, turn_number, step, ordinal, role, content, status,
                               tokens, created_at, agent_id)
    VALUES (new_message_id, t.session_id, of_turn, s.last_message_number, t.branch, t.number, of_step, 0, 'assistant', '',
            'streaming', 0, at, t.plan ->> 'agent_id')
    ON CONFLICT (turn_id, step, ordinal) DO UPDATE SET attempt = m.attempt + 1, content = '', words = NULL, reasoning = NULL
        WHERE m.status = 'streaming'
    RETURNING m.id, m.attempt, m.created_at INTO message_id, attempt, message_created_at;
    IF message_id IS NULL THEN
        RETURN;
    END IF;
    session_id := t.session_id;
    requested_by := t.requested_by;
    plan := t.plan;
    event_seq_floor := s.event_seq_floor;
    event_seq_ceiling := s.event_seq_ceiling;
    incarnation := s.incarnation;
    granted_tools := s.granted_tools;
    turn_tokens := t.used_tokens;
    uncounted_tokens := t.used_tokens - t.counted_tokens;
    turn_cost_usd := t.cost_usd;
    session_tokens := s.used_tokens;
    session_cost_usd := s.used_cost_usd;
    IF s.config <> '{}' THEN
        max_session_tokens := (s.config ->> 'max_session_tokens')::bigint;
        max_session_cost_usd := (s.config ->> 'max_session_cost_usd')::float8;
    END IF;
    SELECT coalesce(max(floor(extract(epoch FROM n.joined_at) * 1000)), 0)::bigint INTO subscribed_ms
    FROM session_subscriptions n WHERE n.session_id = t.session_id AND n.ended_at IS NULL;
    declined_digests := '{}';
    spent_bits := 0;
    -- Earlier steps made calls, or there are none.
    IF of_step > 1 THEN
        declined_digests := ARRAY(SELECT a.arguments_digest FROM approvals a
                                  WHERE a.turn_id = of_turn AND a.status IN ('rejected', 'timed_out'));
        spent_bits := (SELECT coalesce(sum(c.choice_bits), 0) FROM tool_calls c
                       WHERE c.turn_id = of_turn AND c.step < of_step AND NOT c.contained);
    END IF;
    IF of_step > 1 OR t.ancestors <> '{}' THEN
        spent_bits := spent_bits + bits_beside(of_turn, t.ancestors);
    END IF;
    IF t.ancestors <> '{}' THEN
        SELECT l.tokens, l.cost_usd INTO tokens_left_above, cost_left_above_usd FROM left_above(t.ancestors) l;
    END IF;
    IF day_tokens IS NOT NULL OR day_cost_usd IS NOT NULL THEN
        -- Only where the day has a limit. Last of all locks, as wherever usage is counted.
        INSERT INTO token_usage AS u (user_id, day, input_tokens, output_tokens, reserved)
        VALUES (t.requested_by, of_day, 0, 0,
                reserve('{}', of_turn, at_s, until_s, day_tokens, day_cost_usd, NULL, NULL, NULL, NULL))
        ON CONFLICT (user_id, day) DO UPDATE
        SET reserved = reserve(u.reserved, of_turn, at_s, until_s, day_tokens::numeric - u.input_tokens - u.output_tokens,
                               day_cost_usd - coalesce(u.cost_usd, 0), NULL, NULL, NULL, NULL)
        RETURNING u.input_tokens + u.output_tokens, u.cost_usd, u.reserved
        INTO user_day_tokens, user_day_cost_usd, reserved;
    ELSE
        SELECT u.input_tokens + u.output_tokens, u.cost_usd INTO user_day_tokens, user_day_cost_usd
        FROM token_usage u WHERE u.user_id = t.requested_by AND u.day = of_day;
    END IF;
END
$$;

-- What a step made is stored, once, and what it used is counted for its turn, its session and its user's day: a budget binds
-- while a turn waits, too. session_id is null when another attempt of the step was stored or begun meanwhile.
-- closes: the turn ends with it, unless older code stored something of it that is not counted yet, which `finish_turn` counts, or
-- a message joined the turn since the step began.
-- Then the session's next turn is claimed, in a statement that sees what was queued while this one waited for the session's lock.
CREATE FUNCTION save_turn_step(
    of_message text, of_attempt integer, said text, new_status text, provider_calls jsonb, said_tokens integer, read_sources text[],
    read_authors text[], reason text, thought text, kept_items jsonb, as_json jsonb, said_words text, read_tokens bigint,
    written_tokens bigint, cached_tokens bigint, thought_tokens bigint, cost numeric, of_day date, at timestamptz,
    failed_code text, failed_detail text, new_calls jsonb, closes boolean, of_hub text,
    OUT session_id text, OUT event_seq_floor bigint, OUT event_seq_ceiling bigint, OUT incarnation text, OUT status text,
    OUT error_code text, OUT error_detail text, OUT steps integer, OUT input_tokens bigint, OUT output_tokens bigint,
    OUT cached_input_tokens bigint, OUT reasoning_tokens bigint, OUT cost_usd numeric, OUT finish_reason text,
    OUT began_at timestamptz, OUT ended_at timestamptz, OUT agent_id text, OUT agent_version text, OUT model text,
    OUT traceparent text, OUT correlation_id text, OUT answers text[], OUT next_turn_id text, OUT is_joined boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    s record;
    m record;
    t record;
    used bigint := read_tokens + written_tokens;
BEGIN
    SELECT k.session_id INTO s FROM messages k WHERE k.id = of_message AND k.status = 'streaming' AND k.attempt = of_attempt;
    IF NOT FOUND THEN
        RETURN; -- for good: an attempt that was stored, or followed by another, does not become open again
    END IF;
    -- Locked before the turn, as everywhere.
    UPDATE sessions o SET used_tokens = o.used_tokens + used, used_cost_usd = o.used_cost_usd + coalesce(cost, 0)
    WHERE o.id = s.session_id
    RETURNING o.id, o.event_seq_floor, o.event_seq_ceiling, o.incarnation INTO s;
    UPDATE messages k
    SET content = said, status = new_status, calls = provider_calls, tokens = said_tokens, sources = read_sources,
        authors = read_authors, finish_reason = reason, reasoning = thought, kept = kept_items, output = as_json,
        words = said_words::tsvector
    WHERE k.id = of_message AND k.status = 'streaming' AND k.attempt = of_attempt
    RETURNING k.turn_id, k.step INTO m;
    IF NOT FOUND THEN
        -- Stored, or begun again, by another that held the lock: it is not counted twice.
        UPDATE sessions o SET used_tokens = o.used_tokens - used, used_cost_usd = o.used_cost_usd - coalesce(cost, 0)
        WHERE o.id = s.id;
        RETURN;
    END IF;
    UPDATE turns o
    SET input_tokens = o.input_tokens + read_tokens, output_tokens = o.output_tokens + written_tokens,
        cached_input_tokens = o.cached_input_tokens + cached_tokens, reasoning_tokens = o.reasoning_tokens + thought_tokens,
        cost_usd = CASE WHEN cost IS NULL THEN o.cost_usd ELSE coalesce(o.cost_usd, 0) + cost END,
        counted_tokens = o.counted_tokens + used, finish_reason = reason, quiet_until = at, restarts = 0,
        error_code = CASE WHEN NOT closes THEN coalesce(failed_code, o.error_code) END,
        error_detail = CASE WHEN NOT closes THEN coalesce(failed_detail, o.error_detail) END,
        status = CASE WHEN closes AND o.ended_at IS NULL AND o.input_tokens + o.output_tokens = o.counted_tokens
                      AND coalesce(o.joined_step < m.step, true)
                 THEN 'completed' ELSE o.status END,
        ended_at = CASE WHEN closes AND o.ended_at IS NULL AND o.input_tokens + o.output_tokens = o.counted_tokens
                        AND coalesce(o.joined_step < m.step, true)
                   THEN at ELSE o.ended_at END
    WHERE o.id = m.turn_id
    RETURNING o.id, o.requested_by, o.status, o.error_code, o.error_detail, o.steps, o.input_tokens, o.output_tokens,
              o.cached_input_tokens, o.reasoning_tokens, o.cost_usd, o.finish_reason, o.started_at, o.created_at, o.ended_at,
              o.plan, o.ancestors, o.joined_step INTO t;
    IF new_calls <> '[]' THEN
        INSERT INTO tool_calls (id, session_id, turn_id, message_id, step, ordinal, provider_call_id, name, arguments,
                                argument_error, needs_approval, contained, declined, choice_bits, is_client, status)
        SELECT c.id, s.id, m.turn_id, of_message, m.step, c.ordinal, c.provider_call_id, c.name, c.arguments, c.argument_error,
               c.needs_approval, c.contained, c.declined, c.choice_bits, c.is_client, 'pending'
        FROM jsonb_populate_recordset(NULL::tool_calls, new_calls) c;
    END IF;
    IF t.ended_at IS NOT NULL THEN
        -- What it reserved before midnight, when it began.
        UPDATE token_usage u SET reserved = u.reserved - t.id
        WHERE u.user_id = t.requested_by AND u.day = of_day - 1 AND u.reserved ? t.id;
    END IF;
    -- The day last of all locks.
    IF used > 0 THEN
        INSERT INTO token_usage AS u (user_id, day, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd)
        VALUES (t.requested_by, of_day, read_tokens, written_tokens, cached_tokens, thought_tokens, cost)
        ON CONFLICT (user_id, day) DO UPDATE
        SET reserved = u.reserved - t.id,
            input_tokens = u.input_tokens + excluded.input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
            reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
            cost_usd = coalesce(u.cost_usd + excluded.cost_usd, u.cost_usd, excluded.cost_usd);
    ELSE
        UPDATE token_usage u SET reserved = u.reserved - t.id
        WHERE u.user_id = t.requested_by AND u.day = of_day AND u.reserved ? t.id;
    END IF;
    session_id := s.id;
    event_seq_floor := s.event_seq_floor;
    event_seq_ceiling := s.event_seq_ceiling;
    incarnation := s.incarnation;
    status := t.status;
    error_code := t.error_code;
    error_detail := t.error_detail;
    steps := t.steps;
    input_tokens := t.input_tokens;
    output_tokens := t.output_tokens;
    cached_input_tokens := t.cached_input_tokens;
    reasoning_tokens := t.reasoning_tokens;
    cost_usd := t.cost_usd;
    finish_reason := t.finish_reason;
    began_at := coalesce(t.started_at, t.created_at);
    ended_at := t.ended_at;
    agent_id := t.plan ->> 'agent_id';
    agent_version := t.plan ->> 'agent_version';
    model := t.plan ->> 'model';
    traceparent := t.plan ->> 'traceparent';
    correlation_id := t.plan ->> 'correlation_id';
    is_joined := coalesce(t.joined_step >= m.step, false);
    IF t.ancestors <> '{}' THEN
        answers := answered_call(t.id);
    END IF;
    IF closes AND t.ended_at = at AND EXISTS (SELECT FROM turns o WHERE o.session_id = s.id AND o.ended_at IS NULL) THEN
        next_turn_id := claim_next_turn(s.id, of_hub, at);
    END IF;
END
$$;

-- The session's next queued turn is claimed, if none runs; null: there is none.
CREATE FUNCTION claim_next_turn(of_session text, of_hub text, at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    claimed text;
BEGIN
    UPDATE turns SET dispatched_at = at, hub = of_hub, quiet_until = at
    WHERE id = (
        SELECT t.id FROM turns t JOIN sessions s ON s.id = t.session_id
        WHERE t.session_id = of_session AND t.ended_at IS NULL AND s.status = 'ACTIVE'
          AND NOT EXISTS (SELECT FROM turns o
                          WHERE o.session_id = of_session AND o.ended_at IS NULL AND o.dispatched_at IS NOT NULL)
        ORDER BY t.number LIMIT 1
    ) AND dispatched_at IS NULL AND ended_at IS NULL -- checked again on the row itself: another may have been faster
    RETURNING id INTO claimed;
    RETURN claimed;
END
$$;

-- The calls of a turn, with what they wait for and the turns that answer them; null: it made none.
CREATE FUNCTION calls_of(of_turn text) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tool_calls c WHERE c.turn_id = of_turn) THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object(
        'tool_calls',
        (SELECT jsonb_agg(jsonb_build_object('id', c.id, 'message_id', c.message_id, 'name', c.name, 'arguments', c.arguments,
                                             'decided_arguments', c.decided_arguments, 'status', c.status, 'result', c.result,
                                             'is_client', c.is_client) ORDER BY c.step, c.ordinal)
         FROM tool_calls c WHERE c.turn_id = of_turn),
        'waits',
        (SELECT coalesce(jsonb_agg(to_jsonb(w) - 'state' - 'answer' || jsonb_build_object('request', w.request::text)
                                   ORDER BY w.id), '[]')
         FROM tool_waits w WHERE w.turn_id = of_turn AND w.status = 'pending' AND w.kind <> 'agent'),
        'subagents', children_of(of_turn));
END
$$;

-- What a model reads of its turn's branch up to the step before this one, newest first; of what a summary stands for, the newest
-- summary on the way alone. The bound on each part keeps an endless one from being read whole. What an API wants back, it wants
-- within the turn. Authors are null where the user that the turn runs for is the only one.
CREATE FUNCTION context_of(of_turn text, before_step integer, most integer) RETURNS TABLE (
    role text, content text, tokens integer, turn_number integer, step integer, status text, tool_call_id text, calls jsonb,
    note text, attachments jsonb, sources text[], authors text[], finish_reason text, left_out text, kept jsonb, branch integer,
    is_joined boolean, ordinal integer
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    t record;
BEGIN
    SELECT o.session_id, o.branch, o.number, o.requested_by, o.message_id INTO t FROM turns o WHERE o.id = of_turn;
    -- As nearly always: no branch to follow, and nothing summarised.
    IF t.branch = 0 AND NOT EXISTS (SELECT FROM conversation_summaries s WHERE s.session_id = t.session_id) THEN
        RETURN QUERY
        SELECT m.role, m.content, m.tokens, m.turn_number, m.step, m.status, m.tool_call_id, m.calls, m.attachment_note, m.attachments,
           m.sources,
           CASE m.role
               WHEN 'user' THEN nullif(ARRAY[coalesce(m.author, turn_author(m.turn_id, m.created_at))], ARRAY[t.requested_by])
               WHEN 'assistant' THEN nullif(coalesce(m.authors, '{}'), ARRAY[t.requested_by])
           END,
           m.finish_reason, m.left_out, CASE WHEN m.turn_id = of_turn THEN m.kept END, m.branch,
           m.role = 'user' AND m.ordinal > 0 AND m.id <> t.message_id, m.ordinal
        FROM messages m
        WHERE m.session_id = t.session_id AND m.branch = 0 AND m.status <> 'streaming'
          AND (m.turn_number, m.step) <= (t.number, before_step - 1)
        ORDER BY m.turn_number DESC, m.step DESC, m.ordinal DESC
        LIMIT most;
        RETURN;
    END IF;
    RETURN QUERY
    WITH path AS MATERIALIZED (
        SELECT part.* FROM branch_path(t.session_id, t.branch, t.number, before_step - 1) part
    ), summary AS MATERIALIZED (
        SELECT s.* FROM path
        JOIN conversation_summaries s ON s.session_id = t.session_id AND s.branch = path.branch AND s.turn_number < path.turn_number
        ORDER BY s.turn_number DESC LIMIT 1
    )
    SELECT m.role, m.content, m.tokens, m.turn_number, m.step, m.status, m.tool_call_id, m.calls, m.attachment_note, m.attachments,
           m.sources,
           CASE m.role
               WHEN 'user' THEN nullif(ARRAY[coalesce(m.author, turn_author(m.turn_id, m.created_at))], ARRAY[t.requested_by])
               WHEN 'assistant' THEN nullif(coalesce(m.authors, '{}'), ARRAY[t.requested_by])
           END,
           m.finish_reason, m.left_out, CASE WHEN m.turn_id = of_turn THEN m.kept END, m.branch,
           m.role = 'user' AND m.ordinal > 0 AND m.id <> t.message_id, m.ordinal
    FROM path
    CROSS JOIN LATERAL (
        SELECT o.* FROM messages o
        WHERE o.session_id = t.session_id AND o.branch = path.branch AND o.status <> 'streaming'
          AND (o.turn_number, o.step) <= (path.turn_number, path.step)
          AND o.turn_number > coalesce((SELECT summary.turn_number FROM summary), 0)
        ORDER BY o.turn_number DESC, o.step DESC, o.ordinal DESC
        LIMIT most
    ) m
    UNION ALL
    SELECT 'summary', summary.content, summary.tokens, summary.turn_number, 2147483647, 'completed', NULL, NULL, NULL, NULL,
           summary.sources, nullif(summary.authors, ARRAY[t.requested_by]), NULL, NULL, NULL, summary.branch, false, 0
    FROM summary
    ORDER BY turn_number DESC, step DESC, ordinal DESC
    LIMIT most + (SELECT count(*) FROM summary);
END
$$;

-- A condition of a trigger is read anew, text by text and byte by byte, by each statement that it may belong to. So the conditions
-- are short, and what is longer is asked in the functions, which are hardly ever called.

CREATE OR REPLACE FUNCTION tell_parent_turn() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parent text := NEW.ancestors[cardinality(NEW.ancestors)];
BEGIN
    IF OLD.status IS NOT DISTINCT FROM NEW.status AND OLD.ended_at IS NOT DISTINCT FROM NEW.ended_at THEN
        RETURN NULL;
    END IF;
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

CREATE OR REPLACE TRIGGER turns_tell_parent AFTER UPDATE OF status, ended_at ON turns FOR EACH ROW
WHEN (NEW.ancestors <> '{}')
EXECUTE FUNCTION tell_parent_turn();

CREATE OR REPLACE FUNCTION keep_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ended_at IS NULL AND NEW.status IN ('running', 'waiting_input')
       AND EXISTS (SELECT FROM turns c WHERE c.ancestors <> '{}' AND c.ancestors @> ARRAY[NEW.id] AND c.ended_at IS NULL
                   AND c.status IN ('waiting_approval', 'waiting_input')) THEN
        NEW.status := waiting_status(NEW.id);
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER turns_keep_waiting BEFORE UPDATE OF status ON turns FOR EACH ROW
WHEN (starts_with(OLD.status, 'waiting'))
EXECUTE FUNCTION keep_waiting();

CREATE OR REPLACE FUNCTION count_for_parent() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parent text := NEW.ancestors[cardinality(NEW.ancestors)];
    tokens bigint := NEW.input_tokens - OLD.input_tokens + NEW.output_tokens - OLD.output_tokens;
    cost numeric := coalesce(NEW.cost_usd, 0) - coalesce(OLD.cost_usd, 0);
BEGIN
    IF (NEW.input_tokens, NEW.output_tokens, NEW.cost_usd) IS NOT DISTINCT FROM (OLD.input_tokens, OLD.output_tokens, OLD.cost_usd) THEN
        RETURN NEW;
    END IF;
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

CREATE OR REPLACE TRIGGER turns_count_for_parent BEFORE UPDATE OF input_tokens, output_tokens, cost_usd ON turns FOR EACH ROW
WHEN (NEW.ancestors <> '{}')
EXECUTE FUNCTION count_for_parent();
