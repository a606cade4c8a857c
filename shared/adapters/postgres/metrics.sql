-- name: gauges
-- Index-only over sessions_active, approvals_pending and audit_outbox_waiting: what is not active, pending or waiting is not
-- read.
SELECT (SELECT count(*) FROM sessions WHERE status = 'ACTIVE') AS active_sessions,
       (SELECT count(*) FROM approvals WHERE status = 'pending') AS pending_approvals,
       (SELECT count(*) FROM audit_outbox WHERE NOT refused) AS audit_outbox_lines,
       (SELECT coalesce(extract(epoch FROM now() - min(queued_at)), 0)::float FROM audit_outbox WHERE NOT refused) AS audit_outbox_age
