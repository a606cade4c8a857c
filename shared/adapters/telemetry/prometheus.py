"""Totals and gauges in the Prometheus text format, or in OpenMetrics if the client accepts it.

Implements no port: `GET /metrics` renders with it.

Invariant: a value that cannot be read is left out, never shown as zero. A counter that falls to zero and comes back
looks like a restart followed by a burst; a missing one is recognised as missing.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, UntypedMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from shared.sessions.measuring.catalogue import (
    ACTIVE_SESSIONS,
    ACTIVE_SESSIONS_COUNT,
    AUDIT_OUTBOX_AGE,
    AUDIT_OUTBOX_LINES,
    COUNTED,
    INFINITE,
    MESSAGE_COUNT,
    MODEL_COST,
    PENDING_APPROVALS,
    PENDING_APPROVALS_COUNT,
    SESSION_CREATED,
    SUM_FIELD,
    Gauges,
    Kind,
    Metric,
    Totals,
)
from shared.sessions.models import MessageRole

OPENMETRICS = "application/openmetrics-text"

_ROLES = (MessageRole.USER, MessageRole.ASSISTANT, MessageRole.TOOL)

_FROM_ZERO: dict[Metric, tuple[tuple[str, ...], ...]] = {
    SESSION_CREATED: ((),),
    MESSAGE_COUNT: tuple((role.value,) for role in _ROLES),
}
"""Series shown as 0 before the first count, so that the first count is seen as an increase."""

_COST_NAME = "model_cost_usd_total"
_COST_HELP = "Cost of model calls at the registry's prices, in US dollars; models without a price are missing."
_NANO = 1_000_000_000
"""Costs are summed as integers of 1e-9 dollars, so that sums are exact; scrapers read dollars."""


def render(totals: Totals | None, gauges: Gauges | None, accept: str) -> tuple[bytes, str]:
    """The exposition and its content type. None: that source is unavailable, and its metrics are left out."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(totals, gauges))
    # Not the library's own negotiation: it fails on a version that is not a number, and echoes any other.
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if OPENMETRICS in kinds:
        text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class _Snapshot(Collector):
    """The metrics of one response; registered in its own registry."""

    def __init__(self, totals: Totals | None, gauges: Gauges | None) -> None:
        self._totals = totals
        self._gauges = gauges

    def collect(self) -> Iterator[Family]:
        if self._totals is not None:
            for metric in COUNTED:
                yield _family(metric, self._totals)
        if self._gauges is not None:
            for gauge, value in (
                (ACTIVE_SESSIONS, self._gauges.active_sessions),
                (ACTIVE_SESSIONS_COUNT, self._gauges.active_sessions),
                (PENDING_APPROVALS, self._gauges.pending_approvals),
                (PENDING_APPROVALS_COUNT, self._gauges.pending_approvals),
                (AUDIT_OUTBOX_LINES, self._gauges.audit_outbox_lines),
                (AUDIT_OUTBOX_AGE, self._gauges.audit_outbox_age_s),
            ):
                family = GaugeMetricFamily if gauge.kind is Kind.GAUGE else UntypedMetricFamily
                yield family(gauge.name, gauge.help, value)
        sources = GaugeMetricFamily(
            "metrics_source_up",
            "Whether a source of these metrics is available; without it, its metrics are left out.",
            labels=("source",),
        )
        sources.add_metric(("redis",), self._totals is not None)
        sources.add_metric(("postgres",), self._gauges is not None)
        yield sources


def _family(metric: Metric, totals: Totals) -> Family:
    if metric is MODEL_COST:
        return _cost(totals)
    return _counter(metric, totals) if metric.kind is Kind.COUNTER else _histogram(metric, totals)


def _counter(metric: Metric, totals: Totals) -> Family:
    family = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
    found = dict.fromkeys(_FROM_ZERO.get(metric, ()), 0) | dict(_series(metric, totals))
    for labels, value in sorted(found.items()):
        family.add_metric(labels, value)
    return family


def _cost(totals: Totals) -> Family:
    family = CounterMetricFamily(_COST_NAME.removesuffix("_total"), _COST_HELP, labels=MODEL_COST.labels)
    for labels, nano_usd in sorted(_series(MODEL_COST, totals)):
        family.add_metric(labels, nano_usd / _NANO)
    return family


def _histogram(metric: Metric, totals: Totals) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    found: dict[tuple[str, ...], dict[str, int]] = {}
    for (*values, part), value in _series(metric, totals):
        found.setdefault(tuple(values), {})[part] = value
    for labels, parts in sorted(found.items()):
        sum_us = parts.pop(SUM_FIELD, 0)
        buckets: list[tuple[str, float]] = []
        below = 0
        # All stored bounds, not only the current ones: after a change of buckets, old values keep their bounds.
        for bound in sorted({*map(repr, metric.buckets), INFINITE, *parts}, key=float):
            below += parts.get(bound, 0)
            buckets.append((bound, below))
        family.add_metric(labels, buckets, sum_us / 1_000_000)
    return family


def _series(metric: Metric, totals: Totals) -> Iterator[tuple[tuple[str, ...], int]]:
    """Pairs of (label values, value) of the metric's fields; for a histogram the last "label" is the part.

    Fields with other labels were written by another version of the app and are skipped.
    """
    parts = len(metric.labels) + (metric.kind is Kind.HISTOGRAM)
    for field, value in totals.items():
        name, *rest = field.split("|")
        if name == metric.name and len(rest) == parts:
            yield tuple(rest), value
