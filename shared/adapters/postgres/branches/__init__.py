"""Branches of a session, its checkpoints, and copies of it.

Not here: the rows that they point into (`../turns/`, `../sessions/`).
"""
