"""Values that pass between services and stores, and rules that follow from them alone: plans, policies, pages, expiry.

Not here: what the wire shows (`models.py`), the ports of the stores (`repository.py`), SQL (`adapters/postgres/`).
"""
