-- Which notices of an approval are settled: taken by the receiver of webhooks, outdated, or given up. The sweep looks after
-- what is missing here. Not reminders: a lost one is made good by the next.

ALTER TABLE approvals ADD COLUMN notices_settled text[] NOT NULL DEFAULT '{}';
ALTER TABLE approvals ADD COLUMN notices_looked_at timestamptz;

CREATE INDEX approvals_not_asked ON approvals (requested_at)
WHERE status = 'pending' AND NOT 'requested' = ANY (notices_settled);
CREATE INDEX approvals_not_escalated ON approvals (requested_at)
WHERE status = 'pending' AND policy ->> 'escalation_role' IS NOT NULL AND NOT 'escalated' = ANY (notices_settled);
CREATE INDEX approvals_not_told ON approvals (decided_at)
WHERE decided_at IS NOT NULL AND NOT 'decided' = ANY (notices_settled);
