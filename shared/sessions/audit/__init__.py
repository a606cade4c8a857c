"""The audit trail: who did what, as a chain of signed lines, their way to their store, and the check of that chain.

Not here: the store of the lines (`adapters/`), metrics (`metrics.py`), logs.
"""
