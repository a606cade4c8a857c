"""Routes of schedules and triggers, and the address that signed webhooks are sent to.

Not here: the timer that runs schedules (`../operations/sweep.py`).
"""
