-- Where a version of an agent came from: a request, or a file of the app with the hash of its bytes, by which a start
-- knows whether the file has changed. Old code stores versions without it: they came from a request.
ALTER TABLE agents ADD COLUMN source jsonb NOT NULL DEFAULT '{"kind": "api"}';

-- Nobody made a version that came with the app.
ALTER TABLE agents ALTER COLUMN created_by DROP NOT NULL;
