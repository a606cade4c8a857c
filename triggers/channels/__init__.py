"""Webhooks of users: their routes, and what empties the outboxes of webhooks and cards.

Not here: the approvals that cards tell of (`../approvals/`).
"""
