"""Live delivery: events batched for SignalR groups, who is in a group until when; following an event log, SSE as bytes.

Not here: events and their numbers (`events.py`), what a stream tells (`streaming.py`), SignalR itself (`adapters/`).
"""
