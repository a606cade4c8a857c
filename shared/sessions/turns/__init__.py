"""Running a turn: asking the model for a step's answer, what becomes of the answer, retry, cancellation, waiting.

Not here: posting (`posting/`), one whole step (`bridge.py`), one tool call (`tool_handler.py`), the orchestrator.
"""
