-- What tells a session from a later one of the same id, which a client may choose: the names of its event log and of its
-- group are made from it, so who followed the one hears nothing of the other (shared/sessions/events.py). Null in
-- sessions made before: their names are the id alone, as they were, and who follows them goes on.
--
-- While old code is live it follows a session made by new code under the id: its clients find a hole in the numbers and
-- read the messages instead. No default, or old code would do so for its own sessions too.

ALTER TABLE sessions ADD COLUMN incarnation text;

-- Its log is found by it when its row is gone.
ALTER TABLE session_erasures ADD COLUMN incarnation text;
