-- Whose start of a tool call was stored. A start whose answer was lost is told by it from one of somebody else, who may have
-- run the tool.

ALTER TABLE tool_calls ADD COLUMN begun_by text;
