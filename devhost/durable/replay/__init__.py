"""One episode of an orchestration: history in, decisions out, one transaction and what follows from it.

Not here: when an episode runs (`../workers/`).
"""
