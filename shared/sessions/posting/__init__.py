"""Posting a message: the plan of the turn that it starts, the budgets that refuse it, the checks of its content, and
the title that a session gets from its first.

Not here: storing a message and its turn (`service.py`), asking again (`life/branches.py`), running a turn (`turns/`).
"""
