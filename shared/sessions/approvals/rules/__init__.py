"""The rules of a policy: how their conditions are judged, which of them hold for a call, what votes take under them.

Pure functions. Not here: rules as data (`records/approval_policy.py`, `records/conditions.py`); whether a call needs an
approval for other reasons (`../needed.py`).
"""
