-- The MCP servers of a version of an agent, and the definitions of their tools that it pins. Old code leaves both empty.

ALTER TABLE agents
    ADD COLUMN mcp_servers jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN mcp_pins jsonb NOT NULL DEFAULT '[]';
