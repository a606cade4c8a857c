"""The session and the turn that answer the call of an agent, and what its caller reads of them: as the result of the
call or, of one in the background, as a message.

Not here: who may call whom (`agents/graph.py`, `agents/below.py`), the function that a model calls
(`tools/kinds/subagents.py`), the wait of the call (`waits/`, `orchestrators/waiting.py`).
"""
