-- name: pin
-- No row: the session was erased meanwhile. Of many at once a few more than the limit may come in, which harms nobody.
WITH room AS (
    SELECT s.id, (SELECT count(*) FROM session_pins p WHERE p.user_id = %(user_id)s AND p.session_id <> s.id) < %(limit)s AS free
    FROM sessions s WHERE s.id = %(session_id)s
), made AS (
    INSERT INTO session_pins (user_id, session_id, pinned_at)
    SELECT %(user_id)s, id, %(now)s FROM room WHERE free
    ON CONFLICT (user_id, session_id) DO NOTHING
)
SELECT free AS pinned FROM room

-- name: unpin
DELETE FROM session_pins WHERE session_id = %(session_id)s AND user_id = %(user_id)s
