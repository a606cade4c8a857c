"""Redis, which may be away at any time: event log, session entries, token buckets, totals, computed statistics.

Not here: anything that exists nowhere else.
"""
