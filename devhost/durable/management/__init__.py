"""The management API for the SDK's client and the management links, and instances on the host's pages.

Not here: the engine (`../engine.py`).
"""
