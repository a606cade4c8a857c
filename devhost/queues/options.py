"""`extensions.queues` of host.json, with the defaults and limits of the real extension.

Source: azure-sdk-for-net, `QueuesOptions`; the interval on a developer's machine:
`StorageQueuesWebJobsBuilderExtensions`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from devhost.extensions.contract import HostError
from devhost.settings.host_json import lookup, parse_timespan, section

_SHORTEST_POLL_S = 0.1
_DEFAULT_POLL_S = 60.0
_DEVELOPMENT_POLL_S = 2.0
_MOST_IN_BATCH = 32
_KEYS = frozenset(
    {"batchsize", "newbatchthreshold", "maxpollinginterval", "visibilitytimeout", "maxdequeuecount", "messageencoding"}
)


class Encoding(StrEnum):
    BASE64 = "base64"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Seconds where a name ends in `_s`."""

    batch_size: int
    new_batch_threshold: int
    """More messages are asked for when no more than this many are in hand."""
    max_polling_s: float
    visibility_s: int
    """How long a message that failed is left alone."""
    max_dequeue_count: int
    encoding: Encoding


def queue_options(host_json: Mapping[str, Any]) -> QueueOptions:
    """Raises HostError naming the key that is unknown or has no possible value."""
    queues = section(host_json, "extensions", "queues")
    for name in queues:
        if name.lower() not in _KEYS:
            raise HostError(f'host.json: "extensions.queues.{name}" is not supported by devhost')
    batch_size = _number(queues, "batchSize", 16, least=1, most=_MOST_IN_BATCH)
    polling_s = _seconds(queues, "maxPollingInterval", _DEFAULT_POLL_S)
    if polling_s < _SHORTEST_POLL_S:
        raise HostError('host.json: extensions.queues.maxPollingInterval must be "00:00:00.1" or longer')
    encoding = str(lookup(queues, "messageEncoding") or Encoding.BASE64).lower()
    if encoding not in set(Encoding):
        raise HostError('host.json: extensions.queues.messageEncoding must be "base64" or "none"')
    return QueueOptions(
        batch_size=batch_size,
        new_batch_threshold=_number(
            queues, "newBatchThreshold", batch_size // 2 * (os.process_cpu_count() or 1), least=0
        ),
        # As in Azure on a developer's machine, which this is.
        max_polling_s=_DEVELOPMENT_POLL_S if polling_s == _DEFAULT_POLL_S else polling_s,
        visibility_s=round(_seconds(queues, "visibilityTimeout", 0.0)),
        max_dequeue_count=_number(queues, "maxDequeueCount", 5, least=1),
        encoding=Encoding(encoding),
    )


def _number(queues: Mapping[str, Any], name: str, default: int, *, least: int, most: int | None = None) -> int:
    value = lookup(queues, name)
    if value is None:
        return default
    if type(value) is not int or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise HostError(f"host.json: extensions.queues.{name} must be a number {limits}")
    return value


def _seconds(queues: Mapping[str, Any], name: str, default: float) -> float:
    value = lookup(queues, name)
    if value is None:
        return default
    what = f"host.json: extensions.queues.{name}"
    seconds = parse_timespan(str(value), what)
    if seconds is None:
        raise HostError(f'{what} must look like "hh:mm:ss"')
    text = str(value).rpartition(":")[2]
    # Of a time's fraction the reader of host.json takes no notice, and intervals of polling have one.
    return seconds + (float(f"0.{text.partition('.')[2]}") if "." in text else 0.0)
