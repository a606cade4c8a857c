-- name: share_session
-- Who takes somebody out waits for this, and this for them: what is read next is from before or from after, not both.
SELECT 1 FROM sessions WHERE id = %(session_id)s FOR SHARE

-- name: subscribe
WITH readable AS (
    SELECT s.id, s.incarnation FROM sessions s
    WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR EXISTS (
        SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s))
), added AS (
    INSERT INTO session_subscriptions (session_id, user_id, connection_id, joined_at)
    SELECT id, %(user_id)s, %(connection_id)s, %(now)s FROM readable
    ON CONFLICT (session_id, user_id, connection_id) DO UPDATE SET joined_at = excluded.joined_at, ended_at = NULL
)
SELECT incarnation FROM readable

-- name: subscription_stands
SELECT EXISTS (
    SELECT 1 FROM session_subscriptions n
    WHERE n.session_id = s.id AND n.user_id = %(user_id)s AND n.connection_id = %(connection_id)s AND n.ended_at IS NULL
) AS stands
FROM sessions s
WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR EXISTS (
    SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s))

-- name: end_oldest
-- Connections come and go without a word; the last ones are those that still stand.
UPDATE session_subscriptions SET ended_at = %(now)s
WHERE session_id = %(session_id)s AND user_id = %(user_id)s AND ended_at IS NULL AND joined_at < (
    SELECT min(joined_at) FROM (
        SELECT l.joined_at FROM session_subscriptions l
        WHERE l.session_id = %(session_id)s AND l.user_id = %(user_id)s AND l.ended_at IS NULL
        ORDER BY l.joined_at DESC LIMIT %(limit)s) latest)

-- name: unsubscribe
-- All of the user's when no connection is named.
WITH readable AS (
    SELECT s.id, s.incarnation FROM sessions s
    WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR EXISTS (
        SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s))
), gone AS (
    DELETE FROM session_subscriptions n USING readable
    WHERE n.session_id = readable.id AND n.user_id = %(user_id)s
      AND (%(connection_id)s::text IS NULL OR n.connection_id = %(connection_id)s)
    RETURNING n.connection_id
)
SELECT incarnation, ARRAY(SELECT connection_id FROM gone WHERE connection_id <> '') AS connection_ids FROM readable

-- name: on_record
SELECT coalesce(bool_or(connection_id <> ''), false) AS connections, coalesce(bool_or(connection_id = ''), false) AS users
FROM session_subscriptions
WHERE session_id = %(session_id)s AND ended_at IS NULL

-- name: listeners
SELECT user_id, connection_id FROM session_subscriptions
WHERE session_id = %(session_id)s AND ended_at IS NULL
ORDER BY joined_at DESC LIMIT %(limit)s

-- name: end_subscriptions
UPDATE session_subscriptions SET ended_at = coalesce(ended_at, %(now)s)
WHERE session_id = %(session_id)s AND user_id = %(user_id)s
RETURNING connection_id

-- name: ended_subscriptions
SELECT n.session_id, s.incarnation, n.user_id, n.connection_id
FROM session_subscriptions n JOIN sessions s ON s.id = n.session_id
WHERE n.ended_at IS NOT NULL
ORDER BY n.ended_at
LIMIT %(limit)s

-- name: still_readable
-- All open streams of a process at once: those whose reader may read the session now.
SELECT asked.session_id, asked.user_id, s.incarnation
FROM unnest(%(session_ids)s::text[], %(user_ids)s::text[]) AS asked (session_id, user_id)
JOIN sessions s ON s.id = asked.session_id
WHERE s.owner_id = asked.user_id OR EXISTS (
    SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = asked.user_id)

-- name: forget_subscriptions
DELETE FROM session_subscriptions WHERE ended_at < %(before)s
