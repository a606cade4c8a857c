-- name: gauges
-- Index-only over sessions_active and approvals_pending: what is not active or pending is not read.
SELECT (SELECT count(*) FROM sessions WHERE status = 'ACTIVE') AS active_sessions,
       (SELECT count(*) FROM approvals WHERE status = 'pending') AS pending_approvals
