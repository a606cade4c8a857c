-- Until when a turn may be silent: set by each step that it begins or stores, to the step's own limit. A turn that is silent for
-- longer has lost its orchestration; it is started again, and counted.

ALTER TABLE turns ADD COLUMN quiet_until timestamptz;
ALTER TABLE turns ADD COLUMN restarts smallint NOT NULL DEFAULT 0;

-- When orchestrations of an erased session were told to end: one that is purged before that arrives comes back as a row.

ALTER TABLE session_erasures ADD COLUMN told_at timestamptz;
