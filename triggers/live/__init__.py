"""SignalR negotiation and groups, the relay that running activities send through, events replayed and live.

Not here: the stream of one turn (`../sessions/turns.py`).
"""
