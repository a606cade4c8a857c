"""What an approver sees and does: the inbox, the decision, the signed link with its page.

Not here: who may decide (`shared/sessions/approvals/`).
"""
