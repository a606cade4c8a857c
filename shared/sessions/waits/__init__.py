"""Waits of tool calls that have begun: what is asked, who may answer, and what their calls go on with.

Not here: the durable wait (`orchestrators/waiting.py`), waits for approvals (`approvals/`), what an MCP server may ask
(`mcp/asking.py`), the call that goes on (`tool_handler.py`).
"""
