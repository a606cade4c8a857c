"""Turns that nobody posts by hand: schedules, and triggers that are fired from outside.

Not here: the timer that looks for due schedules (`triggers/operations/sweep.py`), and posting itself (`service.py`).
"""
