"""For approvers: the inbox, the decision, the signed link with its page; the test of a policy.

Not here: who may decide (`shared/sessions/approvals/`).
"""
