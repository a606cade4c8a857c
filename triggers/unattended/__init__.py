"""Routes of schedules and triggers, the address of signed webhooks, and the queue whose messages fire triggers.

Not here: the timer that runs schedules (`../operations/sweep.py`).
"""
