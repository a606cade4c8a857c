"""Approval rules: which tool calls need approval, who may decide, how votes count, and which notices are sent when.

Pure functions over records, but for `retelling.py`, which reads them. Not here: the workflow itself (`approval.py`),
the policy as data (`records/approval_policy.py`), pages and links (`triggers/`), the durable wait (`orchestrators/`).
"""
