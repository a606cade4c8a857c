"""Agents as data: what a session talks to, in versions that never change, and the plan a turn gets from one.

Not here: what a model may call (`tools/`), how its calls are allowed (`records/policy.py`, `approvals/`).
"""
