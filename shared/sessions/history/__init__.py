"""Stored messages for users: pages, search, bookmarks, exports.

Not here: the model's context (`context/`).
"""
