"""The Responses API: the request body, and the events of an answer.

Not here: server-sent events (`../sse.py`), errors (`../refusals/`).
"""
