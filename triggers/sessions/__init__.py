"""Routes of sessions and what is in them: messages, turns, branches, checkpoints, files, history, exports, audit.

Not here: live events (`../live/`), approvals (`../approvals/`).
"""
