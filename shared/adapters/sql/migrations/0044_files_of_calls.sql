-- A tool call may make several files. Code from before this makes one, number 0.

ALTER TABLE attachments ADD COLUMN tool_call_file smallint NOT NULL DEFAULT 0;

CREATE UNIQUE INDEX attachments_made_files ON attachments (session_id, tool_call_id, tool_call_file)
    WHERE tool_call_id IS NOT NULL;
DROP INDEX attachments_made;
