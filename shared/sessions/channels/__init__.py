"""Who is told beside the conversation: webhooks of users, and cards for those who may decide an approval.

Both are outboxes in the database, drained by the sweep. Not here: live events (`../live/`), when approvals are told
again (`../approvals/notices.py`), and how a card looks in Teams, Slack or a mail (`shared/adapters/channels/`).
"""
