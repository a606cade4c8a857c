"""Routes of the catalog: agents with their versions and MCP servers, and tools.

Not here: the tools (`shared/sessions/tools/`).
"""
