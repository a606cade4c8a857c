"""What the client does, without doing it: which request, what its answer means, when to try again, where to go on.

Everything here is plain values and decisions; `_async.py` and `_sync.py` send, read and sleep.
Not here: sockets, clocks, threads, event loops, httpx.
"""
