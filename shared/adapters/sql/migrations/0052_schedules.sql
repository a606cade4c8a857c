-- Schedules and what became of each time that they were due. Ids of schedules are their owner's own, so that nobody learns
-- which ones others have; uid never changes, and what a run posts is known by it and its due time.

CREATE TABLE schedules (
    uid           text PRIMARY KEY,
    owner_id      text NOT NULL,
    id            text NOT NULL,
    name          text,
    content       text NOT NULL,
    session_id    text, -- null: a new session for each run. No reference: a session that is erased stops its schedules.
    agent_id      text,
    config        jsonb NOT NULL, -- of new sessions; only the fields that were set
    approval_mode text,
    at            timestamptz, -- once, or
    cron          text,        -- by this expression in this zone
    zone          text NOT NULL,
    missed        text NOT NULL,
    overlap       text NOT NULL,
    status        text NOT NULL,
    status_reason text,
    next_run_at   timestamptz, -- null unless the status is active
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    UNIQUE (owner_id, id)
);

CREATE INDEX schedules_due ON schedules (next_run_at) WHERE next_run_at IS NOT NULL;

CREATE TABLE schedule_runs (
    schedule_uid  text NOT NULL REFERENCES schedules ON DELETE CASCADE,
    due_at        timestamptz NOT NULL,
    status        text NOT NULL,
    reason        text,
    claimed_until timestamptz, -- a process posts it, and has died if it has not said so by then
    session_id    text,
    turn_id       text,
    noted_at      timestamptz NOT NULL,
    PRIMARY KEY (schedule_uid, due_at)
);

CREATE INDEX schedule_runs_pending ON schedule_runs (due_at) WHERE status = 'pending';
