-- What a call ran with when a person approved it with changes.

-- Approved with changes: a fork copies calls and no approvals.
ALTER TABLE tool_calls ADD COLUMN decided_arguments jsonb;

UPDATE tool_calls SET decided_arguments = a.decided_arguments
FROM approvals a
WHERE a.tool_call_id = tool_calls.id AND a.status = 'approved' AND a.decided_arguments IS NOT NULL;
