"""For approvers: the inbox, the decision, the signed link with its page.

Not here: who may decide (`shared/sessions/approvals/`).
"""
