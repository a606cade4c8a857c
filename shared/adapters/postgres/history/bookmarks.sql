-- name: set_bookmark
-- No row: the message is not in that session. `made` is false when the bookmark was there and only its note changed.
INSERT INTO bookmarks (id, session_id, message_id, user_id, note, created_at)
SELECT %(id)s, m.session_id, m.id, %(user_id)s, %(note)s, %(now)s
FROM messages m WHERE m.id = %(message_id)s AND m.session_id = %(session_id)s
ON CONFLICT (message_id, user_id) DO UPDATE SET note = excluded.note
RETURNING *, id = %(id)s AS made

-- name: bookmark
SELECT * FROM bookmarks WHERE id = %(bookmark_id)s AND session_id = %(session_id)s AND user_id = %(user_id)s

-- name: bookmarks
SELECT * FROM bookmarks
WHERE session_id = %(session_id)s AND user_id = %(user_id)s
  AND (%(after_at)s::timestamptz IS NULL OR (created_at, id) < (%(after_at)s, %(after_id)s))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s

-- name: delete_bookmark
DELETE FROM bookmarks WHERE id = %(bookmark_id)s AND session_id = %(session_id)s AND user_id = %(user_id)s
