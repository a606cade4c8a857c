"""SignalR negotiation and groups, the relay for running activities, and the event replay and stream of a session.

Not here: the stream of one turn (`../sessions/turns.py`).
"""
