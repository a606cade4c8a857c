-- What one's own turns wait for, newest first, among everybody's.

CREATE INDEX approvals_requested_by ON approvals (requested_by, status, requested_at DESC, id DESC);
