"""The Responses API: the request, the whole answer, and the stream of its events.

Not here: what is answered (`../reply.py`).
"""
