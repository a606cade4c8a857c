"""AG-UI 1.0: `door.py` maps a turn's events to a run, `request.py` says what a client may post.

Not here: the route (`triggers/doors/`), and reading events (`../reader.py`).
"""
