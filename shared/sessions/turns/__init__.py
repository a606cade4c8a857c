"""Running a turn: the queue for a place, asking the model for a step's answer and how often, what becomes of the
answer, cancellation, waiting.

Not here: posting (`posting/`), one whole step (`bridge.py`), one tool call (`tool_handler.py`), the orchestrator.
"""
