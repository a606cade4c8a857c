"""Export of spans and metrics: OpenTelemetry exporters and the Prometheus text format.

Not here: what is traced (`shared/tracing.py`) and counted (`shared/sessions/metrics.py`, `shared/sessions/measuring/`).
"""
