"""Chat completions: the request and the answer on the wire.

Not here: what is answered (`../reply.py`).
"""
