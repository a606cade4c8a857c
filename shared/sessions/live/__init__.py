"""Live delivery through SignalR: batches of events to groups, and who is in a group until when.

Not here: events and their numbers (`events.py`), Server-Sent Events (`streaming.py`), the SignalR client (`adapters/`).
"""
