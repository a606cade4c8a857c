"""Redis, which may be unavailable at any time: event log, session cache, token buckets, metric totals, statistics.

Not here: data that exists only once; Redis never holds the only copy.
"""
