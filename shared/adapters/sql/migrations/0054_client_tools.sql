-- Calls of tools that a message declared: the client of whoever posted it answers them.

ALTER TABLE tool_calls ADD COLUMN is_client boolean NOT NULL DEFAULT false;
