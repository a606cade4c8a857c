"""The Responses API: the request, the whole answer, and the stream of its events.

Not here: the content of the answer (`../reply.py`).
"""
