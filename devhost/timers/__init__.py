"""Timer triggers and their NCRONTAB schedules.

Not here: durable timers (`../durable/workers/timers.py`).
"""
