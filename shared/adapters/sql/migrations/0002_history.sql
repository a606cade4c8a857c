-- Full-text search over messages, and bookmarks. Needs PostgreSQL 17: the collation pg_c_utf8 knows the letters of all
-- scripts whatever the database's own locale is.

-- Text as it is indexed and asked for: lower case, one form per character, words apart by single spaces. Han and kana,
-- which are written without spaces, become one word per character, so that asking for several finds them in a row.
CREATE FUNCTION search_text(content text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN octet_length(content) = char_length(content)
    THEN regexp_replace(lower(content COLLATE pg_c_utf8), '[^a-z0-9]+', ' ', 'g')
    ELSE regexp_replace(
        regexp_replace(
            lower(normalize(content, NFKC) COLLATE pg_c_utf8), '[^[:alnum:]]+', ' ', 'g'),
        '([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])', ' \1 ', 'g')
END;

-- A question: every term has to be there, its words one after another; the last word of a prefix may go on.
-- search_text leaves letters, digits and spaces only, so nothing in a term can be syntax.
CREATE FUNCTION search_query(terms text[], prefixes boolean[]) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    whole tsquery := ''::tsquery;
    words text;
BEGIN
    FOR place IN 1 .. cardinality(terms) LOOP
        words := trim(search_text(terms[place]));
        IF words <> '' THEN
            whole := whole && CASE
                WHEN NOT prefixes[place] THEN phraseto_tsquery('simple', words)
                -- Only the last word is a prefix: what stands before it is a phrase that leads to it.
                WHEN position(' ' IN words) = 0 THEN to_tsquery('simple', '''' || words || ''':*')
                ELSE phraseto_tsquery('simple', regexp_replace(words, ' [^ ]+$', ''))
                     <-> to_tsquery('simple', '''' || regexp_replace(words, '^.* ', '') || ''':*')
            END;
        END IF;
    END LOOP;
    RETURN whole;
END $$;

-- Beside the messages, not in them: their rows stay narrow, and storing an answer stays an update that touches no index.
CREATE TABLE message_search (
    session_id text NOT NULL,
    message_id text NOT NULL,
    owner_id   text NOT NULL, -- of the session; a session never changes hands
    role       text NOT NULL,
    created_at timestamptz NOT NULL,
    words      tsvector NOT NULL,
    -- No foreign key: the triggers below do its work, and the key by session serves a search in one.
    PRIMARY KEY (session_id, message_id)
);

-- The bound keeps a vector below the 1 MB that a tsvector may have: an indexing error would cost the message.
CREATE FUNCTION index_message() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_search (session_id, message_id, owner_id, role, created_at, words)
    SELECT s.id, NEW.id, s.owner_id, NEW.role, NEW.created_at,
           to_tsvector('simple', search_text(left(NEW.content, 100000)))
    FROM sessions s WHERE s.id = NEW.session_id
    ON CONFLICT (session_id, message_id) DO UPDATE SET words = excluded.words;
    RETURN NULL;
END $$;
CREATE TRIGGER messages_index_new AFTER INSERT ON messages
    FOR EACH ROW WHEN (NEW.content <> '') EXECUTE FUNCTION index_message();
CREATE TRIGGER messages_index_changed AFTER UPDATE OF content ON messages
    FOR EACH ROW WHEN (NEW.content <> OLD.content) EXECUTE FUNCTION index_message();

CREATE FUNCTION unindex_message() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM message_search WHERE session_id = OLD.session_id AND message_id = OLD.id;
    RETURN NULL;
END $$;
CREATE TRIGGER messages_unindex AFTER DELETE ON messages
    FOR EACH ROW WHEN (OLD.content <> '') EXECUTE FUNCTION unindex_message();

INSERT INTO message_search (session_id, message_id, owner_id, role, created_at, words)
SELECT s.id, m.id, s.owner_id, m.role, m.created_at, to_tsvector('simple', search_text(left(m.content, 100000)))
FROM messages m JOIN sessions s ON s.id = m.session_id WHERE m.content <> '';

CREATE INDEX message_search_owner ON message_search (owner_id, created_at DESC);
-- A short pending list (64 kB): who fills it sorts it in, and that must not keep a turn waiting for long (at 300,000
-- messages 10 ms; none at all would cost every message twice as much). Every search reads all of it.
CREATE INDEX message_search_words ON message_search USING gin (words) WITH (gin_pending_list_limit = 64);

CREATE TABLE bookmarks (
    id         text PRIMARY KEY,
    session_id text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    message_id text NOT NULL REFERENCES messages ON DELETE CASCADE,
    user_id    text NOT NULL,
    note       text,
    created_at timestamptz NOT NULL,
    -- One bookmark of a user per message: setting it again changes its note.
    UNIQUE (message_id, user_id)
);
CREATE INDEX bookmarks_session ON bookmarks (session_id, user_id, created_at DESC, id DESC);
