-- Which task hub the orchestrations of a turn are in: a sweep that does not find one in its own hub must not take it for lost
-- when another hub has it. Of turns that older code started the hub is not known yet.

-- The hubs that work on this database, or did. seen_at: when the app on it last swept. A hub without a row is given up: what it
-- may still hold counts as gone.

CREATE TABLE task_hubs (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    address     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL
);

ALTER TABLE turns ADD COLUMN hub text;

-- In which hubs a session's orchestrations follow a version of its suspension, {hub: version}.

ALTER TABLE sessions ADD COLUMN hold_settled_in jsonb NOT NULL DEFAULT '{}';

-- The hub whose histories an erasure began with, and of each instance that is in another one, that hub.

ALTER TABLE session_erasures ADD COLUMN hub text;
ALTER TABLE session_erasures ADD COLUMN homes jsonb NOT NULL DEFAULT '{}';
