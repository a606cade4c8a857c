"""Usage limits: token and cost budgets of a turn, a session and a day (`budgets.py`), and rate limits (`requests.py`).

Not here: model prices (`llm/models.json`), context windows (`llm/windows.py`).
"""
