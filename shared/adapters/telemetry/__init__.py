"""Spans and metrics on their way out: OpenTelemetry exporters and the Prometheus text format.

Not here: what is traced (`shared/tracing.py`) and counted (`shared/sessions/metrics.py`).
"""
