-- Workflows: orchestrations of the folder agents/ that answer calls. Each is a wait of its call, with kind 'result'.
-- workflow: the orchestration; null: somebody else posts the result. begun_by: the start that runs it, of all that were made.
-- workflow_over_at: it was seen to have ended, with all that it had started.

ALTER TABLE tool_waits
    ADD COLUMN workflow         text,
    ADD COLUMN workflow_id      text,
    ADD COLUMN begun_by         text,
    ADD COLUMN looked_at        timestamptz,
    ADD COLUMN workflow_over_at timestamptz;

CREATE INDEX tool_waits_workflows ON tool_waits (looked_at) WHERE workflow IS NOT NULL AND workflow_over_at IS NULL;
