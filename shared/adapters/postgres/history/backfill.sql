-- name: claim_old
-- Whoever changes or deletes one of these messages waits for the batch.
SELECT o.session_id, o.message_id, left(m.content, %(chars)s) AS content
FROM message_search_old o LEFT JOIN messages m ON m.id = o.message_id
WHERE (o.session_id, o.message_id) > (%(after_session)s, %(after_message)s)
ORDER BY o.session_id, o.message_id
LIMIT %(limit)s
FOR UPDATE OF o SKIP LOCKED

-- name: replace_old
WITH split AS (
    SELECT unnest(%(sessions)s::text[]) AS session_id, unnest(%(ids)s::text[]) AS message_id,
           unnest(%(words)s::text[]) AS words
), gone AS (
    DELETE FROM message_search_old o USING split
    WHERE o.session_id = split.session_id AND o.message_id = split.message_id
    RETURNING o.session_id, o.message_id, o.owner_id, o.role, o.created_at, split.words
)
INSERT INTO message_words (session_id, message_id, owner_id, role, created_at, words)
SELECT session_id, message_id, owner_id, role, created_at, words::tsvector FROM gone WHERE words IS NOT NULL
ON CONFLICT (session_id, message_id) DO NOTHING
