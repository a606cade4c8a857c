"""Agents as data, in immutable versions, and the turn plans made from them.

Not here: tools (`tools/`), approval policies (`records/approval_policy.py`, `approvals/`).
"""
