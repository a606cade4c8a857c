"""Tools that are no function of this process: each kind makes a `Tool` of what a plan or a folder holds.

MCP servers' tools (`pinned.py`), agents that are called or handed over to (`subagents.py`, `handovers.py`), workflows
(`workflows.py`), and what the caller's own client runs (`client.py`). Not here: the wait for their answers (`waits/`).
"""
