"""Sessions as rows: made, read, listed, changed; participants, expiry, erasure; who hears one; how long one is kept.

Not here: their turns (`../turns/`), copies and checkpoints (`../branches/`).
"""
