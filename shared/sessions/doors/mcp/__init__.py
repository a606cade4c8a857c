"""An MCP server: `protocol.py` reads messages and refuses what is none, `tools.py` says which tools there are, and what
they take and give.

Not here: the route (`triggers/doors/mcp_server.py`); MCP servers that agents call (`shared/sessions/mcp/`).
"""
