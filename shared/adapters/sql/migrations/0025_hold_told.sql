-- When the instances of a session were last told to suspend or resume. A command is a message that arrives later: a version is
-- settled once every instance was seen as it should be, long enough after that for earlier commands to have arrived.

ALTER TABLE sessions ADD COLUMN hold_told_at timestamptz;
