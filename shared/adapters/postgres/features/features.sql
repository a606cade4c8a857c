-- name: own_tags
SELECT name, color, description, created_at FROM tags WHERE owner_id = %(user_id)s ORDER BY name COLLATE "C" LIMIT %(limit)s

-- name: insert_tag
-- The limit may be passed by as many as come at the very same time: it bounds abuse, nothing else hangs on it.
INSERT INTO tags (owner_id, name, color, description, created_at)
SELECT %(user_id)s, %(name)s, %(color)s, %(description)s, %(now)s
WHERE (SELECT count(*) FROM tags WHERE owner_id = %(user_id)s) < %(limit)s
ON CONFLICT DO NOTHING
RETURNING name

-- name: tag_exists
SELECT EXISTS (SELECT 1 FROM tags WHERE owner_id = %(user_id)s AND name = %(name)s) AS found

-- name: delete_tag
DELETE FROM tags WHERE owner_id = %(user_id)s AND name = %(name)s
RETURNING name, color, description, created_at

-- name: own_templates
SELECT * FROM session_templates WHERE owner_id = %(user_id)s ORDER BY id LIMIT %(limit)s

-- name: own_template
SELECT * FROM session_templates WHERE id = %(template_id)s AND owner_id = %(user_id)s

-- name: insert_template
INSERT INTO session_templates (id, owner_id, name, description, session_name, agent_id, config, tags, metadata, created_at)
SELECT %(id)s, %(user_id)s, %(name)s, %(description)s, %(session_name)s, %(agent_id)s, %(config)s, %(tags)s,
       %(metadata)s, %(now)s
WHERE (SELECT count(*) FROM session_templates WHERE owner_id = %(user_id)s) < %(limit)s
ON CONFLICT (owner_id, name) DO NOTHING
RETURNING *

-- name: template_name_exists
SELECT EXISTS (SELECT 1 FROM session_templates WHERE owner_id = %(user_id)s AND name = %(name)s) AS found

-- name: delete_template
DELETE FROM session_templates WHERE id = %(template_id)s AND owner_id = %(user_id)s
RETURNING *
