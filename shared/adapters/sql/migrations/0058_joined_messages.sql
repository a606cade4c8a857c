-- Steering: a message joins the turn that runs, after its newest step. It is a message of that turn and of that step, behind
-- the step's tool results (ordinal 1,000,000 and on), so it stands where the next step reads it.
-- joined_step: of the newest that joined; null: none did. The step that would end the turn sees in the turn's own row whether
-- one joined since it began.
ALTER TABLE turns ADD COLUMN joined_step integer;
