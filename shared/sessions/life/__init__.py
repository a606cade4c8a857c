"""A session beside its turns: changed, shared, branched, forked, expired, erased from every store.

Not here: making one and posting to it (`service.py`, `posting/`), going back to a checkpoint (`recovery.py`).
"""
