"""Schedules with their runs, and triggers.

Not here: the messages that they post (`../turns/`).
"""
