-- Webhooks of users, and the deliveries that wait, are being made or were made: an outbox. A delivery is queued by triggers, in
-- the transaction of what it tells, so that no writer can forget it and no kill loses it. Older code queues, too, and sends nothing.

CREATE TABLE webhooks (
    id               text COLLATE "C" PRIMARY KEY,
    owner_id         text NOT NULL,
    url              text NOT NULL,
    description      text,
    events           text[] NOT NULL,
    salt             text NOT NULL, -- its secret is derived from this and a secret of the deployment, and stored nowhere
    digest           text NOT NULL, -- SHA-256 of its secret: whether what was derived is what its owner was shown
    previous_salt    text,
    previous_digest  text,
    previous_until   timestamptz, -- until then the secret before signs, too
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    failing_since    timestamptz, -- its first failure since the last delivery that was taken
    off_at           timestamptz, -- NULL: on
    off_reason       text
);
CREATE INDEX webhooks_owner ON webhooks (owner_id, id);

CREATE TABLE webhook_deliveries (
    id           text COLLATE "C" PRIMARY KEY DEFAULT gen_random_uuid()::text,
    number       bigint GENERATED ALWAYS AS IDENTITY,
    webhook_id   text COLLATE "C" NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    event        text NOT NULL,
    -- No reference: a key that the session's deletion holds would be waited for under a turn's lock.
    session_id   text COLLATE "C" NOT NULL,
    data         jsonb NOT NULL,
    occurred_at  timestamptz NOT NULL,
    status       text NOT NULL DEFAULT 'pending',
    due_at       timestamptz NOT NULL, -- while it is being sent: when it counts as cut
    tries        integer NOT NULL DEFAULT 0,
    tried_at     timestamptz,
    answer_code  integer,
    error        text,
    took_ms      integer
);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook_id, due_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_listed ON webhook_deliveries (webhook_id, number DESC);
CREATE INDEX webhook_deliveries_session ON webhook_deliveries (session_id);
CREATE INDEX webhook_deliveries_over ON webhook_deliveries (occurred_at) WHERE status <> 'pending';

-- As its owner: an app that runs while this is applied has no rights in the new tables yet. A webhook that is being deleted is
-- waited for and then left out.
CREATE FUNCTION queue_webhooks(owner text, event_name text, session text, told jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO webhook_deliveries (webhook_id, event, session_id, data, occurred_at, due_at)
    SELECT w.id, event_name, session, told, now(), now()
    FROM (SELECT id FROM webhooks
          WHERE owner_id = owner AND off_at IS NULL AND event_name = ANY (events) ORDER BY id FOR KEY SHARE) w
$$;

-- Whether a turn waits for a person's answer, and not only for a result from outside.
CREATE FUNCTION asks_its_user(turn text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM tool_waits w WHERE w.turn_id = turn AND w.status = 'pending' AND w.kind = 'input')
$$;

-- Most owners have no webhook, and a turn ends often: whether there is one is asked first, by a plan that is kept.
CREATE FUNCTION tell_of_turn() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    owner text;
BEGIN
    SELECT s.owner_id INTO owner FROM sessions s
    WHERE s.id = NEW.session_id AND EXISTS (SELECT FROM webhooks w WHERE w.owner_id = s.owner_id AND w.off_at IS NULL)
      AND (NEW.status <> 'waiting_input' OR asks_its_user(NEW.id));
    IF FOUND THEN
        PERFORM queue_webhooks(
            owner,
            CASE WHEN NEW.status IN ('waiting_approval', 'waiting_input') THEN 'turn.waiting' ELSE 'turn.' || NEW.status END,
            NEW.session_id,
            jsonb_build_object(
                'session_id', NEW.session_id, 'turn_id', NEW.id, 'status', NEW.status, 'requested_by', NEW.requested_by,
                'finish_reason', NEW.finish_reason, 'created_at', NEW.created_at, 'ended_at', NEW.ended_at,
                'error', CASE WHEN NEW.error_code IS NOT NULL
                         THEN jsonb_build_object('code', NEW.error_code, 'detail', NEW.error_detail) END));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER turns_told AFTER UPDATE OF status ON turns FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('waiting_approval', 'waiting_input', 'completed', 'failed', 'cancelled'))
EXECUTE FUNCTION tell_of_turn();

CREATE FUNCTION tell_of_session() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM queue_webhooks(
        NEW.owner_id, 'session.ended', NEW.id,
        jsonb_build_object('session_id', NEW.id, 'status', NEW.status, 'ended_at', NEW.ended_at));
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_told AFTER UPDATE OF status ON sessions FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status = 'ENDED')
EXECUTE FUNCTION tell_of_session();
