"""Faults between the app and what it depends on.

Not here: what Azure's host and durable engine do to an app (`devhost/harsh.py`).
"""
