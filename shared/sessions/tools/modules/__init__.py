"""Tools that are not Parley's: modules in the app's folder `agents/`, and what is wrong with a file there.

Not here: the built-in tools (`builtin/`), agents that are files (`sessions/agents/files.py`).
"""
