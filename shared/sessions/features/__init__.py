"""Tags, pins, session templates and statistics.

Not here: counters of the process (`metrics.py`).
"""
