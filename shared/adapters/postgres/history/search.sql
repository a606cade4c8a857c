-- name: begin
-- For this transaction. Compiling a plan would take longer than running it.
SELECT set_config('statement_timeout', %(timeout_ms)s, true), set_config('jit', 'off', true),
       EXISTS (SELECT FROM message_search_old) AS has_old

-- name: search_everywhere
-- The newest matches of what the caller owns and of what is shared with them, ranked. The bound on how many are ranked
-- is what keeps a common word of a long history fast; a rare word never reaches it.
WITH found AS (
    (SELECT s.message_id, s.words FROM message_words s
     WHERE s.owner_id = %(user_id)s AND s.words @@ %(asked)s::tsquery
       AND (%(role)s::text IS NULL OR s.role = %(role)s)
       AND (%(since)s::timestamptz IS NULL OR s.created_at >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR s.created_at < %(until)s)
     ORDER BY s.created_at DESC LIMIT %(ranked)s)
    UNION ALL
    (SELECT s.message_id, s.words
     FROM session_participants p JOIN message_words s ON s.session_id = p.session_id
     WHERE p.user_id = %(user_id)s AND s.owner_id <> %(user_id)s AND s.words @@ %(asked)s::tsquery
       AND (%(role)s::text IS NULL OR s.role = %(role)s)
       AND (%(since)s::timestamptz IS NULL OR s.created_at >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR s.created_at < %(until)s)
     ORDER BY s.created_at DESC LIMIT %(ranked)s)
), ranked AS (
    SELECT message_id, words @@ %(cut)s::tsquery AS is_cut, CASE
        WHEN words @@ %(exact)s::tsquery
        THEN %(exact_rank)s + round(ts_rank(words, %(exact)s::tsquery, 1) * 1e9)::bigint
        ELSE round(ts_rank(words, %(asked)s::tsquery, 1) * 1e9)::bigint END AS rank
    FROM found
), page AS (
    SELECT message_id, rank, is_cut FROM ranked
    WHERE %(after_rank)s::bigint IS NULL OR (rank, message_id) < (%(after_rank)s, %(after_id)s)
    ORDER BY rank DESC, message_id DESC LIMIT %(limit)s
)
SELECT page.rank, page.is_cut, m.id, m.session_id, m.turn_id, m.role, m.created_at, left(m.content, %(chars)s) AS content,
       coalesce(sessions.name, sessions.title) AS session_name
FROM page JOIN messages m ON m.id = page.message_id JOIN sessions ON sessions.id = m.session_id
ORDER BY page.rank DESC, m.id DESC

-- name: search_session
WITH found AS (
    SELECT s.message_id, s.words
    FROM message_words s
    WHERE s.session_id = %(session_id)s AND s.words @@ %(asked)s::tsquery
      AND (%(role)s::text IS NULL OR s.role = %(role)s)
      AND (%(since)s::timestamptz IS NULL OR s.created_at >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR s.created_at < %(until)s)
      AND EXISTS (SELECT 1 FROM sessions o WHERE o.id = %(session_id)s AND (o.owner_id = %(user_id)s OR EXISTS (
          SELECT 1 FROM session_participants p WHERE p.session_id = o.id AND p.user_id = %(user_id)s)))
    ORDER BY s.created_at DESC LIMIT %(ranked)s
), ranked AS (
    SELECT message_id, words @@ %(cut)s::tsquery AS is_cut, CASE
        WHEN words @@ %(exact)s::tsquery
        THEN %(exact_rank)s + round(ts_rank(words, %(exact)s::tsquery, 1) * 1e9)::bigint
        ELSE round(ts_rank(words, %(asked)s::tsquery, 1) * 1e9)::bigint END AS rank
    FROM found
), page AS (
    SELECT message_id, rank, is_cut FROM ranked
    WHERE %(after_rank)s::bigint IS NULL OR (rank, message_id) < (%(after_rank)s, %(after_id)s)
    ORDER BY rank DESC, message_id DESC LIMIT %(limit)s
)
SELECT page.rank, page.is_cut, m.id, m.session_id, m.turn_id, m.role, m.created_at, left(m.content, %(chars)s) AS content,
       coalesce(sessions.name, sessions.title) AS session_name
FROM page JOIN messages m ON m.id = page.message_id JOIN sessions ON sessions.id = m.session_id
ORDER BY page.rank DESC, m.id DESC

-- name: old_everywhere
-- What the sweep has not split yet, by the words of the version before: all of it is exact.
WITH found AS (
    (SELECT s.message_id, s.words FROM message_search_old s
     WHERE s.owner_id = %(user_id)s AND s.words @@ search_query(%(terms)s, %(prefixes)s)
       AND (%(role)s::text IS NULL OR s.role = %(role)s)
       AND (%(since)s::timestamptz IS NULL OR s.created_at >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR s.created_at < %(until)s)
     ORDER BY s.created_at DESC LIMIT %(ranked)s)
    UNION ALL
    (SELECT s.message_id, s.words
     FROM session_participants p JOIN message_search_old s ON s.session_id = p.session_id
     WHERE p.user_id = %(user_id)s AND s.owner_id <> %(user_id)s
       AND s.words @@ search_query(%(terms)s, %(prefixes)s)
       AND (%(role)s::text IS NULL OR s.role = %(role)s)
       AND (%(since)s::timestamptz IS NULL OR s.created_at >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR s.created_at < %(until)s)
     ORDER BY s.created_at DESC LIMIT %(ranked)s)
), ranked AS (
    SELECT message_id, %(exact_rank)s +
           round(ts_rank(words, search_query(%(terms)s, %(prefixes)s), 1) * 1e9)::bigint AS rank
    FROM found
), page AS (
    SELECT message_id, rank FROM ranked
    WHERE %(after_rank)s::bigint IS NULL OR (rank, message_id) < (%(after_rank)s, %(after_id)s)
    ORDER BY rank DESC, message_id DESC LIMIT %(limit)s
)
SELECT page.rank, false AS is_cut, m.id, m.session_id, m.turn_id, m.role, m.created_at, left(m.content, %(chars)s) AS content,
       coalesce(sessions.name, sessions.title) AS session_name
FROM page JOIN messages m ON m.id = page.message_id JOIN sessions ON sessions.id = m.session_id
ORDER BY page.rank DESC, m.id DESC

-- name: old_session
WITH found AS (
    SELECT s.message_id, s.words
    FROM message_search_old s
    WHERE s.session_id = %(session_id)s AND s.words @@ search_query(%(terms)s, %(prefixes)s)
      AND (%(role)s::text IS NULL OR s.role = %(role)s)
      AND (%(since)s::timestamptz IS NULL OR s.created_at >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR s.created_at < %(until)s)
      AND EXISTS (SELECT 1 FROM sessions o WHERE o.id = %(session_id)s AND (o.owner_id = %(user_id)s OR EXISTS (
          SELECT 1 FROM session_participants p WHERE p.session_id = o.id AND p.user_id = %(user_id)s)))
    ORDER BY s.created_at DESC LIMIT %(ranked)s
), ranked AS (
    SELECT message_id, %(exact_rank)s +
           round(ts_rank(words, search_query(%(terms)s, %(prefixes)s), 1) * 1e9)::bigint AS rank
    FROM found
), page AS (
    SELECT message_id, rank FROM ranked
    WHERE %(after_rank)s::bigint IS NULL OR (rank, message_id) < (%(after_rank)s, %(after_id)s)
    ORDER BY rank DESC, message_id DESC LIMIT %(limit)s
)
SELECT page.rank, false AS is_cut, m.id, m.session_id, m.turn_id, m.role, m.created_at, left(m.content, %(chars)s) AS content,
       coalesce(sessions.name, sessions.title) AS session_name
FROM page JOIN messages m ON m.id = page.message_id JOIN sessions ON sessions.id = m.session_id
ORDER BY page.rank DESC, m.id DESC
