"""Chat completions: the request body, and the stream of an answer with what compatible servers do differently.

Not here: server-sent events (`../sse.py`), tool calls in pieces (`../calls.py`), errors (`../refusals/`).
"""
