-- What became of earlier calls of a tool, newest first: an approver looks at it before deciding about another.

CREATE INDEX approvals_tool ON approvals (tool, requested_at DESC, id DESC);
