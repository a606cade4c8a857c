"""The queue binding extension: `queueTrigger` and the output `queue`.

Invariant: nothing is asked of a queue service before `start`, and nothing at all for a function that is disabled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devhost.extensions.contract import Binding, Function, Host, HostContext, HostError, TriggerData
from devhost.queues.account import account_of
from devhost.queues.listener import Listener, encoded
from devhost.queues.options import QueueOptions, queue_options
from devhost.queues.service import Queue, QueueService
from devhost.settings.config import grace_s

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

TRIGGER, OUTPUT = "queueTrigger", "queue"
POISON = "-poison"
LEASE_SETTING = "DEVHOST_QUEUE_LEASE_SECONDS"
DEFAULT_LEASE_S = 15
LONGEST_LEASE_S = 600
"""Azure's host takes this one, which whoever has killed a host on a laptop would wait for."""
_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_KEYS = {"type", "name", "direction", "datatype", "queuename", "connection", "properties"}


class QueuesExtension:
    """See `devhost.extensions.contract.Extension`."""

    name = "queues"
    trigger_types = frozenset({TRIGGER})
    input_types: frozenset[str] = frozenset()
    output_types = frozenset({OUTPUT})

    def __init__(self) -> None:
        self._lease_s = DEFAULT_LEASE_S
        self._service = QueueService()
        self._outputs: dict[tuple[str, str], Queue] = {}
        """By connection and name."""
        self._listeners: list[Listener] = []
        self._options: QueueOptions
        self._grace_s = 0.0

    def bind(self, host: Host) -> None:
        context = host.context
        self._options = queue_options(context.host_json)
        self._grace_s = grace_s(context.settings)
        self._lease_s = _lease_s(context.settings)
        for function in context.functions:
            if function.trigger.type == TRIGGER:
                queue, poison = self._queues(context, function)
                if not function.disabled:
                    self._listeners.append(
                        Listener(host, function, queue, poison, self._options, lease_s=self._lease_s)
                    )
            for binding in function.outputs:
                if binding.type == OUTPUT:
                    self._outputs[_key(binding)] = self._queue(context, function, binding)

    def routes(self) -> Sequence[BaseRoute]:
        return ()

    async def start(self) -> None:
        for listener in self._listeners:
            listener.start()

    async def stop(self) -> None:
        for listener in self._listeners:
            await listener.stop(self._grace_s)
        await self._service.close()

    async def resolve_input(self, binding: Binding, trigger: TriggerData) -> str | bytes:
        """There are no inputs of queues."""
        raise NotImplementedError(binding.type)

    async def send_output(self, binding: Binding, value: Any) -> None:
        """One message, or one for each item of a list. Raises ValueError, QueueFailed."""
        queue = self._outputs[_key(binding)]
        for item in value if isinstance(value, list) else [value]:
            if item is None or item == "":
                continue
            body = item if isinstance(item, bytes) else (item if isinstance(item, str) else json.dumps(item)).encode()
            await queue.send(encoded(body, self._options.encoding))

    def _queues(self, context: HostContext, function: Function) -> tuple[Queue, Queue | None]:
        queue = self._queue(context, function, function.trigger)
        poison = queue.name + POISON
        if queue.name.endswith(POISON) or not _NAME.fullmatch(poison):
            return queue, None
        where = f"function '{function.name}'"
        account = account_of(context.settings, str(_fields(function.trigger).get("connection") or ""), where)
        return queue, Queue(self._service, account, poison)

    def _queue(self, context: HostContext, function: Function, binding: Binding) -> Queue:
        where = f"function '{function.name}', binding '{binding.name}'"
        fields = _fields(binding)
        unknown = sorted(name for name in binding.raw if name.lower() not in _KEYS)
        if unknown:
            raise HostError(f"{where}: {binding.type} has no property {', '.join(unknown)} in devhost")
        name = str(fields.get("queuename") or "").lower()
        if "{" in name:
            raise HostError(f"{where}: an expression in queueName ({name}) is not supported by devhost")
        if not _NAME.fullmatch(name):
            raise HostError(
                f"{where}: {name!r} is no name of a queue (3 to 63 lower-case letters, digits and single dashes)"
            )
        return Queue(self._service, account_of(context.settings, str(fields.get("connection") or ""), where), name)


def _lease_s(settings: Mapping[str, str]) -> int:
    text = settings.get(LEASE_SETTING) or str(DEFAULT_LEASE_S)
    if not text.isdigit() or not 1 <= int(text) <= LONGEST_LEASE_S:
        raise HostError(f"app setting {LEASE_SETTING} must be a number of seconds from 1 to {LONGEST_LEASE_S}")
    return int(text)


def _fields(binding: Binding) -> dict[str, Any]:
    return {name.lower(): value for name, value in binding.raw.items()}


def _key(binding: Binding) -> tuple[str, str]:
    fields = _fields(binding)
    return str(fields.get("connection") or ""), str(fields.get("queuename") or "").lower()
