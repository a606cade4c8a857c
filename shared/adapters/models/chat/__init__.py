"""Chat completions: the request body, and the answer stream with the differences between compatible servers.

Not here: server-sent events (`../sse.py`), assembling tool calls (`../calls.py`), errors (`../refusals/`).
"""
