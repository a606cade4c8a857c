"""What a caller may use: tokens and money of a turn, a session and a day (`budgets.py`), requests (`requests.py`).

Not here: prices of models (`llm/models.json`), the window of a model (`llm/windows.py`).
"""
