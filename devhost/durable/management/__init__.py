"""The management API as the SDK's client and the links call it, and instances as the host's pages show them.

Not here: the engine it asks (`../engine.py`).
"""
