-- Search in every script: the app splits a message into lexemes (shared/sessions/history/words.py,
-- shared/adapters/postgres/history/lexemes.py), since what a database takes for a letter follows from its version and locale.

-- What was indexed before waits here until the sweep has split it, and is searched as before. The table empties itself.
ALTER TABLE message_search RENAME TO message_search_old;

CREATE TABLE message_words (
    session_id text NOT NULL,
    message_id text NOT NULL,
    owner_id   text NOT NULL, -- of the session; a session never changes hands
    role       text NOT NULL,
    created_at timestamptz NOT NULL,
    words      tsvector NOT NULL,
    -- No foreign key: the triggers below do its work, and the key by session serves a search in one.
    PRIMARY KEY (session_id, message_id)
) WITH (toast_tuple_target = 8160); -- A phrase is looked up in the vectors; out of line, each costs twice as much to read.
-- By the usual statistics, of the 1,000 commonest lexemes, a rare word looks too common for the index alone.
ALTER TABLE message_words ALTER COLUMN words SET STATISTICS 500;
CREATE INDEX message_words_owner ON message_words (owner_id, created_at DESC);
-- A short pending list, as on the table before (0002_history.sql): who fills it sorts it in.
CREATE INDEX message_words_words ON message_words USING gin (words) WITH (gin_pending_list_limit = 64);

-- For the version before this one, while both run.
CREATE VIEW message_search AS
SELECT session_id, message_id, owner_id, role, created_at, words FROM message_words
UNION ALL
SELECT session_id, message_id, owner_id, role, created_at, words FROM message_search_old;

-- On its way only: whoever writes a message gives its words here, and the trigger stores them beside it. So no message can
-- be stored and not be found.
ALTER TABLE messages ADD COLUMN words tsvector CHECK (words IS NULL);

CREATE OR REPLACE FUNCTION index_message() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM message_search_old WHERE session_id = NEW.session_id AND message_id = NEW.id;
    END IF;
    IF NEW.words IS NOT NULL THEN
        INSERT INTO message_words (session_id, message_id, owner_id, role, created_at, words)
        SELECT s.id, NEW.id, s.owner_id, NEW.role, NEW.created_at, NEW.words FROM sessions s WHERE s.id = NEW.session_id
        ON CONFLICT (session_id, message_id) DO UPDATE SET words = excluded.words;
        NEW.words := NULL;
    ELSE
        -- By a version that does not split words, which the sweep then does.
        DELETE FROM message_words WHERE session_id = NEW.session_id AND message_id = NEW.id;
        INSERT INTO message_search_old (session_id, message_id, owner_id, role, created_at, words)
        SELECT s.id, NEW.id, s.owner_id, NEW.role, NEW.created_at,
               to_tsvector('simple', search_text(left(NEW.content, 100000)))
        FROM sessions s WHERE s.id = NEW.session_id
        ON CONFLICT (session_id, message_id) DO UPDATE SET words = excluded.words;
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER messages_index_new ON messages;
DROP TRIGGER messages_index_changed ON messages;
CREATE TRIGGER messages_index_new BEFORE INSERT ON messages
    FOR EACH ROW WHEN (NEW.content <> '' OR NEW.words IS NOT NULL) EXECUTE FUNCTION index_message();
CREATE TRIGGER messages_index_changed BEFORE UPDATE OF content, words ON messages
    FOR EACH ROW WHEN (NEW.content <> OLD.content OR NEW.words IS NOT NULL) EXECUTE FUNCTION index_message();

CREATE OR REPLACE FUNCTION unindex_message() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- In this order: the sweep, which moves rows from the one to the other, is waited for at the first.
    DELETE FROM message_search_old WHERE session_id = OLD.session_id AND message_id = OLD.id;
    DELETE FROM message_words WHERE session_id = OLD.session_id AND message_id = OLD.id;
    RETURN NULL;
END $$;
