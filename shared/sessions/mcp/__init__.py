"""Tools of MCP servers: which servers an agent names, what they offer, and the definitions that a version pins.

Not here: the client that speaks the protocol (`adapters/mcp/`), the tools made of pins (`tools/kinds/pinned.py`).
"""
