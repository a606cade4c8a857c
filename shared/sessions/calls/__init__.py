"""What becomes of one tool call, as values: why it does not run, how it ended, what is told of its end.

Not here: running it at most once (`tool_handler.py`), who decides about it (`approvals/`), its tool (`tools/`).
"""
