"""Tool calls that wait for a person: which ones, who may decide, how votes count, and who is told what and when.

Pure functions over records. Not here: the workflow itself (`approval.py`), the policy as data (`records/policy.py`),
pages and links (`triggers/`), the durable wait (`orchestrators/`).
"""
