"""Errors of a model server: read, told apart, and what can be left out or learned so that the next request is taken.

Not here: when a turn tries again (`shared/sessions/turns/retry.py`).
"""
