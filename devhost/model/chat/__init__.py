"""Chat completions: the request and the answer on the wire.

Not here: the content of the answer (`../reply.py`).
"""
