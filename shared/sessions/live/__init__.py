"""Live delivery: events batched for SignalR groups, who is in a group until when, whether anybody is in it, who is
addressed as what; following an event log, SSE as bytes.

Not here: events and their numbers (`events.py`), what a stream tells (`streaming.py`), SignalR itself (`adapters/`).
"""
