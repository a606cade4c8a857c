"""The app: found by Microsoft's worker library, its functions called, each invocation with its correlation id.

Not here: what calls them (`http/`, `timers/`, extensions).
"""
