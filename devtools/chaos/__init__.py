"""`./dev chaos`: random faults of everything under real turns, and whether the promises held (README.md).

Not here: what Azure's host and durable engine do to an app (`devhost/harsh.py`).
"""
