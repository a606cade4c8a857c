-- Who may decide which approval, one row each, so that an inbox reads what its owner may decide and nothing else. Derived from
-- the approval by a trigger, so that no writer can forget it. since: when an escalation begins; null: from the beginning.

CREATE TABLE approval_deciders (
    approval_id  text NOT NULL REFERENCES approvals ON DELETE CASCADE,
    decider      text NOT NULL, -- 'role:' or 'user:', and its name
    since        timestamptz,
    status       text NOT NULL,
    tool         text NOT NULL,
    requested_at timestamptz NOT NULL,
    PRIMARY KEY (approval_id, decider)
);

CREATE FUNCTION deciders_of(policy jsonb, requested_at timestamptz) RETURNS TABLE (decider text, since timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT found.decider, CASE WHEN bool_or(found.since IS NULL) THEN NULL ELSE min(found.since) END
    FROM (
        SELECT 'role:' || role AS decider, NULL::timestamptz AS since
        FROM jsonb_array_elements_text(CASE jsonb_typeof(policy -> 'roles') WHEN 'array' THEN policy -> 'roles' ELSE '[]' END) role
        UNION ALL
        SELECT 'user:' || id, NULL
        FROM jsonb_array_elements_text(CASE jsonb_typeof(policy -> 'users') WHEN 'array' THEN policy -> 'users' ELSE '[]' END) id
        UNION ALL
        SELECT 'role:' || (policy ->> 'escalation_role'),
               requested_at + make_interval(secs => (policy ->> 'escalate_after_seconds')::float)
        WHERE policy ->> 'escalation_role' IS NOT NULL AND policy ->> 'escalate_after_seconds' IS NOT NULL
    ) found
    GROUP BY found.decider
$$;

-- As its owner: an app that runs while this is applied has no rights in the new table yet.
CREATE FUNCTION note_deciders() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM approval_deciders WHERE approval_id = OLD.id;
    END IF;
    INSERT INTO approval_deciders (approval_id, decider, since, status, tool, requested_at)
    SELECT NEW.id, d.decider, d.since, NEW.status, NEW.tool, NEW.requested_at
    FROM deciders_of(NEW.policy, NEW.requested_at) d;
    RETURN NULL;
END
$$;

CREATE TRIGGER approvals_made AFTER INSERT ON approvals FOR EACH ROW EXECUTE FUNCTION note_deciders();
CREATE TRIGGER approvals_changed AFTER UPDATE ON approvals FOR EACH ROW
WHEN ((OLD.status, OLD.policy, OLD.tool, OLD.requested_at) IS DISTINCT FROM (NEW.status, NEW.policy, NEW.tool, NEW.requested_at))
EXECUTE FUNCTION note_deciders();

INSERT INTO approval_deciders (approval_id, decider, since, status, tool, requested_at)
SELECT a.id, d.decider, d.since, a.status, a.tool, a.requested_at
FROM approvals a, deciders_of(a.policy, a.requested_at) d;

CREATE INDEX approval_deciders_inbox ON approval_deciders (decider, status, requested_at DESC, approval_id DESC);
CREATE INDEX approval_deciders_tool ON approval_deciders (decider, tool, status, requested_at DESC, approval_id DESC);
DROP INDEX approvals_inbox, approvals_tool;

-- When a session was last found in use, so that the search for idle ones looks at each once in so many days. Posting a message
-- does not write it. It replaces blocks in order of age, which hold mostly ended sessions one day.

ALTER TABLE sessions ADD COLUMN in_use_at timestamptz;
CREATE INDEX sessions_in_use ON sessions (coalesce(in_use_at, created_at)) WHERE status <> 'ENDED';
DROP INDEX sessions_age;
