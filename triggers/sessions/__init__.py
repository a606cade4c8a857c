"""Routes of sessions and their content: messages, turns, branches, checkpoints, files, history, exports, audit.

Not here: live events (`../live/`), approvals (`../approvals/`).
"""
