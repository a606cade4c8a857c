"""Values passed between services and stores, with the rules that need nothing else: plans, policies, pages, expiry.

Not here: wire models (`models.py`), the stores' ports (`repository.py`), SQL (`adapters/postgres/`).
"""
