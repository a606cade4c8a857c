"""Metrics: their definitions, the timing of calls, and the sum of all processes' counts in one store.

Not here: counting (`metrics.py`), the stores (`adapters/`), the text that Prometheus scrapes (`adapters/telemetry/`).
"""
