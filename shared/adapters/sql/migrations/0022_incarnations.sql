-- What tells a session from a later one of the same id, which a client may choose: the names of its event log and of its
-- group are made from it, so who followed the one hears nothing of the other (shared/sessions/events.py). Null in
-- sessions made before: their names are the id alone, as they were, and who follows them goes on.
--
-- Old code that is still live knows a session made by new code under its id alone: it numbers events of its own beside the
-- new code's, and its clients do not hear those. docs/operations.md ("Upgrade") says to let no old instance serve when
-- this runs. No default, or old code would do so for its own sessions too.

ALTER TABLE sessions ADD COLUMN incarnation text;

-- Its log is found by it when its row is gone.
ALTER TABLE session_erasures ADD COLUMN incarnation text;
