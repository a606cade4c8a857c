"""Running a tool so that nothing it does harms more than its own call: time, threads, the event loop, secrets.

Not here: whether a call may run, and that it runs at most once (`tool_handler.py`).
"""
