-- What the gauge active_sessions_count counts. Posting a message leaves `status` and `id` as they are, so its update of
-- the session's row touches no index, as before.
CREATE INDEX sessions_active ON sessions (id) WHERE status = 'ACTIVE';
