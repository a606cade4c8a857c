-- name: announce_blob
-- Only for a session that is there: what is written for one that is erased would never be asked for.
INSERT INTO loose_blobs (blob_name, session_id, due_at)
SELECT %(blob_name)s, id, %(due_at)s FROM sessions WHERE id = %(session_id)s
RETURNING blob_name

-- name: release_blob
UPDATE loose_blobs SET due_at = now() WHERE blob_name = %(blob_name)s AND session_id = %(session_id)s

-- name: insert_attachment
-- The session is locked by the caller. Nothing is stored for a blob that was claimed meanwhile.
WITH announced AS (
    DELETE FROM loose_blobs WHERE blob_name = %(blob_name)s AND session_id = %(session_id)s AND NOT claimed
    RETURNING blob_name
)
INSERT INTO attachments (session_id, id, created_by, name, kind, media_type, size_bytes, sha256, blob_name, text,
                         text_chars, facts, warnings, tool_call_id, tool_call_file, created_at)
SELECT %(session_id)s, %(id)s, %(created_by)s, %(name)s, %(kind)s, %(media_type)s, %(size_bytes)s, %(sha256)s, blob_name,
       %(text)s, %(text_chars)s, %(facts)s, %(warnings)s, %(tool_call_id)s,
       %(tool_call_file)s, %(now)s
FROM announced
RETURNING id

-- name: usage
SELECT count(*) AS files, coalesce(sum(size_bytes), 0)::bigint AS bytes FROM attachments WHERE session_id = %(session_id)s

-- name: attachment_for_user
SELECT a.session_id, a.id, a.created_by, a.name, a.kind, a.media_type, a.size_bytes, a.sha256, a.blob_name, a.text_chars,
       a.facts, a.warnings, a.created_at, left(a.text, %(max_chars)s) AS text
FROM attachments a JOIN sessions s ON s.id = a.session_id
WHERE a.id = %(id)s AND (s.owner_id = %(user_id)s OR EXISTS (
    SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s))
ORDER BY a.session_id
LIMIT 1

-- name: attachments_of_session
SELECT session_id, id, created_by, name, kind, media_type, size_bytes, sha256, blob_name, text_chars, facts, warnings,
       created_at, NULL AS text
FROM attachments
WHERE session_id = %(session_id)s AND (%(after)s::text IS NULL OR (created_at, id) > (%(after_at)s, %(after)s::text))
ORDER BY created_at, id
LIMIT %(limit)s

-- name: some_attachments
SELECT session_id, id, created_by, name, kind, media_type, size_bytes, sha256, blob_name, text_chars, facts, warnings,
       created_at, left(text, %(max_chars)s) AS text
FROM attachments
WHERE session_id = %(session_id)s AND id = ANY(%(ids)s)

-- name: attachment_part
SELECT session_id, id, created_by, name, kind, media_type, size_bytes, sha256, blob_name, text_chars, facts, warnings,
       created_at, substr(text, %(start)s, %(chars)s) AS text
FROM attachments
WHERE session_id = %(session_id)s AND id = %(id)s

-- name: attachment_of_call
SELECT session_id, id, created_by, name, kind, media_type, size_bytes, sha256, blob_name, text_chars, facts, warnings,
       created_at, NULL AS text
FROM attachments
WHERE session_id = %(session_id)s AND tool_call_id = %(tool_call_id)s AND tool_call_file = %(tool_call_file)s

-- name: attachment_of_content
SELECT session_id, id, created_by, name, kind, media_type, size_bytes, sha256, blob_name, text_chars, facts, warnings,
       created_at, NULL AS text
FROM attachments
WHERE session_id = %(session_id)s AND created_by = %(user_id)s AND sha256 = %(sha256)s AND name = %(name)s
  AND tool_call_id IS NULL
ORDER BY created_at, id LIMIT 1

-- name: claim_loose_blobs
-- Claimed ones again too: whoever claimed them may have been cut.
UPDATE loose_blobs l SET claimed = true
WHERE (l.blob_name, l.session_id) IN (
    SELECT blob_name, session_id FROM loose_blobs
    WHERE due_at <= %(now)s AND (%(session_id)s::text IS NULL OR session_id = %(session_id)s)
    ORDER BY due_at LIMIT %(limit)s)
RETURNING l.blob_name, l.session_id, EXISTS (SELECT 1 FROM attachments a WHERE a.blob_name = l.blob_name) AS is_used

-- name: forget_loose_blobs
DELETE FROM loose_blobs l USING unnest(%(names)s::text[], %(sessions)s::text[]) AS gone (blob_name, session_id)
WHERE l.blob_name = gone.blob_name AND l.session_id = gone.session_id AND l.claimed

-- name: has_loose_blobs
SELECT EXISTS (SELECT 1 FROM loose_blobs WHERE session_id = %(session_id)s) AS found
