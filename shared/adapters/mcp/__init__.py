"""The client of MCP servers over streamable HTTP, within our limits of addresses, bytes and time.

Not here: what a definition or a result may hold (`sessions/mcp/`), the guard of addresses (`adapters/http/`).
"""
