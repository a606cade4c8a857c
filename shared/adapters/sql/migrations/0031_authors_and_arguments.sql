-- Whose words an answer was written from, who wrote a message of older code, and what a changed call ran with.

-- Of an answer, as conversation_summaries.authors; null in older rows. A turn reads its newest messages only, and an answer
-- among them passes on who wrote what is no longer read.
ALTER TABLE messages ADD COLUMN authors text[];

-- Who wrote a user's message that has no author: the user that its turn ran for. Not in what older code copied into a fork:
-- there the turn is the one that answers, which another user may have asked for. Null: nobody knows.
CREATE FUNCTION turn_author(of_turn text, written_at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT t.requested_by FROM turns t JOIN sessions s ON s.id = t.session_id
        WHERE t.id = of_turn AND (s.forked_from IS NULL OR written_at >= s.created_at));

-- Approved with changes: a fork copies calls and no approvals.
ALTER TABLE tool_calls ADD COLUMN decided_arguments jsonb;

UPDATE tool_calls SET decided_arguments = a.decided_arguments
FROM approvals a
WHERE a.tool_call_id = tool_calls.id AND a.status = 'approved' AND a.decided_arguments IS NOT NULL;
