"""The load generator, a process of its own, seen from inside and outside; one client, one turn, what is asked.

Not here: what is measured when (`../run.py`).
"""
