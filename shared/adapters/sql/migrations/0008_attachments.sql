-- Files of a session: what their bytes held is here, the bytes are blobs.

CREATE TABLE attachments (
    session_id   text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    -- The same file keeps its id in a session copied from this one, so that what messages say of it stays true there.
    id           text NOT NULL,
    created_by   text NOT NULL,
    -- As its sender called it, cleaned: for people, never a path.
    name         text NOT NULL,
    -- By content, whatever the sender claimed.
    kind         text NOT NULL,
    media_type   text NOT NULL,
    size_bytes   bigint NOT NULL,
    sha256       text NOT NULL,
    -- Rows of copied sessions name the same blob.
    blob_name    text NOT NULL,
    -- What the analyser read out of it, bounded; null if nothing can be read out of its kind.
    text         text,
    text_chars   integer NOT NULL,
    facts        jsonb NOT NULL,
    warnings     text[] NOT NULL,
    -- The tool call that made it: a repeat of the call finds it.
    tool_call_id text,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (session_id, id)
);
CREATE INDEX attachments_id ON attachments (id);
CREATE INDEX attachments_blob ON attachments (blob_name);
CREATE UNIQUE INDEX attachments_made ON attachments (session_id, tool_call_id) WHERE tool_call_id IS NOT NULL;

-- Blobs that may have no row: each is on record here before it is written, until the statement that stores its row, and
-- again from the moment a row of it goes. Whoever deletes one claims it first, so that no row can be stored for it then.
CREATE TABLE loose_blobs (
    blob_name  text NOT NULL,
    session_id text NOT NULL, -- no foreign key: it is what is left of a session
    due_at     timestamptz NOT NULL,
    claimed    boolean NOT NULL DEFAULT false,
    -- By session too: of two sessions that share a blob and go at the same time, each leaves a record of its own.
    PRIMARY KEY (blob_name, session_id)
);
CREATE INDEX loose_blobs_due ON loose_blobs (due_at);
CREATE INDEX loose_blobs_session ON loose_blobs (session_id);

CREATE FUNCTION loosen_blob() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO loose_blobs (blob_name, session_id, due_at) VALUES (OLD.blob_name, OLD.session_id, now())
    ON CONFLICT (blob_name, session_id) DO UPDATE SET due_at = excluded.due_at, claimed = false;
    RETURN NULL;
END $$;
CREATE TRIGGER attachments_loosen AFTER DELETE ON attachments FOR EACH ROW EXECUTE FUNCTION loosen_blob();

ALTER TABLE messages
    -- What came with it, in order, as the API shows it: [{"id", "name", "kind", "media_type", "size_bytes"}].
    ADD COLUMN attachments     jsonb,
    -- What a model reads of them. Written once: the same words in every turn keep the model's prompt cache warm.
    ADD COLUMN attachment_note text;
