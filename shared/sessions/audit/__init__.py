"""The audit trail: who did what, in entries that are chained by hashes, and how a reader checks the chain.

Not here: where entries are kept (`adapters/`), metrics (`metrics.py`), logs.
"""
