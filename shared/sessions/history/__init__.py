"""What was said: pages of messages, search, bookmarks, exports.

Not here: what a model reads of it (`context/`).
"""
