"""The request of one model call: its content, how many tokens it may read and write, the correction of an answer.

Not here: sending it (`executor.py`), which messages fit (`context/`), budgets as rules (`limits/`), the port (`llm/`).
"""
