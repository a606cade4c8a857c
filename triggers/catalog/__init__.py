"""Routes of the catalog: agents with their versions, and tools.

Not here: the tools (`shared/sessions/tools/`).
"""
