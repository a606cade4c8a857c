"""One episode of an orchestration: from the history to a decision, one transaction and its effects.

Not here: when an episode runs (`../workers/`).
"""
