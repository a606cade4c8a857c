-- Titles that a model makes (shared/sessions/life/titling.py). Only sessions that nobody named, and that have none yet, are in the index: those
-- of the last day are looked at.

ALTER TABLE sessions
    ADD COLUMN titled_at    timestamptz, -- a model has made the title, or was asked for it in vain
    ADD COLUMN title_due_at timestamptz, -- somebody asks now; when this has passed, they were killed
    ADD COLUMN title_tries  smallint NOT NULL DEFAULT 0;

CREATE INDEX sessions_without_title ON sessions (created_at)
WHERE titled_at IS NULL AND name IS NULL AND parent_session_id IS NULL AND forked_from IS NULL;
