-- What a session is called until somebody names it: the beginning of its first message (shared/sessions/posting/titles.py).

ALTER TABLE sessions ADD COLUMN title text;

-- The first line that has something in it, without marks of Markdown before it.
UPDATE sessions s
SET title = nullif(btrim(left(substring(left(m.content, 2000) FROM '[^\s#>*_`~-][^\n\r]*'), 80)), '')
FROM messages m
WHERE s.name IS NULL AND m.session_id = s.id AND m.branch = 0 AND m.turn_number = 1 AND m.step = 0 AND m.ordinal = 0;
