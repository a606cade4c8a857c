"""Full-text search and bookmarks.

Not here: pages of messages (`../turns/turns.py`), whose order is that of the branches.
"""
