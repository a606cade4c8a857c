"""Posting a message: the plan of the turn that it starts, the budgets that refuse it, and the checks of its content.

Not here: storing a message and its turn (`service.py`), asking again (`life/branches.py`), running a turn (`turns/`).
"""
