"""Webhooks of users with their deliveries, and the cards of approvals: two outboxes.

Not here: what queues deliveries, which is triggers of the database (migration 0050).
"""
