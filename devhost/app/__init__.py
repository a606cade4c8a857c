"""The app: Microsoft's worker library finds its functions and calls them, each invocation with a correlation id.

Not here: the triggers (`../http/`, `../timers/`, extensions).
"""
