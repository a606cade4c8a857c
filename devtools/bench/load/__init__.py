"""The load generator (a separate process) and its parent's side; clients, turns and workloads.

Not here: the order of measurements (`../run.py`).
"""
