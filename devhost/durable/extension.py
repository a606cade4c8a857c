"""Durable Functions as a binding extension of the dev host.

Invariant: `bind` reports every error in the app's durable functions, settings or data folder before
anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import BaseRoute

from devhost.durable.binding import Links
from devhost.durable.engine import Engine
from devhost.durable.management.access import system_key
from devhost.durable.management.client_api import ClientApi
from devhost.durable.management.tables import instance_list, instance_page, newest_instances
from devhost.durable.registry import TRIGGERS, Registry
from devhost.durable.settings import read_settings
from devhost.extensions.contract import Binding, Host, HostContext, HostError, Shown, TriggerData

CLIENT_INPUTS = frozenset({"durableClient", "orchestrationClient"})


class DurableExtension:
    """One task hub in one SQLite file of the data folder."""

    name = "durableTask"
    trigger_types = TRIGGERS
    input_types = CLIENT_INPUTS
    output_types: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._routes: list[BaseRoute] = []
        self._client_payload = ""

    def bind(self, host: Host) -> None:
        """Open the task hub. Raises HostError naming the function, setting or file that is wrong."""
        context = host.context
        settings = read_settings(context.host_json, context.settings)
        registry = Registry(context.functions)
        _check_clients(context, settings.hub)
        path = context.data_dir / f"durable-{settings.hub.lower()}.sqlite3"
        links = Links(context.base_url, settings.hub, system_key(context.data_dir), context.local_url)
        self._engine = Engine(host, path, registry, settings)
        self._routes = ClientApi(self._engine, links).routes()
        self._client_payload = links.client_payload()

    def routes(self) -> Sequence[BaseRoute]:
        return self._routes

    def overview(self) -> Sequence[Shown]:
        """The newest instances."""
        assert self._engine is not None, "bind comes first"
        return [newest_instances(self._engine)]

    def page(self, detail: str | None, query: Mapping[str, str]) -> Sequence[Shown]:
        """All instances, or one with its timeline and history."""
        assert self._engine is not None, "bind comes first"
        return instance_list(self._engine, query) if detail is None else instance_page(self._engine, detail, query)

    async def start(self) -> None:
        """Resume the work that was in flight when the data folder was last used."""
        assert self._engine is not None, "bind comes first"
        self._engine.start()

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.stop()

    async def resolve_input(self, binding: Binding, trigger: TriggerData) -> str | bytes:
        return self._client_payload

    async def send_output(self, binding: Binding, value: Any) -> None:
        raise ValueError(f"{binding.type} cannot be an output")


def _check_clients(context: HostContext, hub: str) -> None:
    for function in context.functions:
        for binding in function.inputs:
            if binding.type not in CLIENT_INPUTS:
                continue
            wanted = str(binding.raw.get("taskHub") or "")
            if wanted and wanted.lower() != hub.lower():
                raise HostError(
                    f"function {function.name}: its durable client asks for task hub '{wanted}', but this host "
                    f"runs '{hub}' only; leave task_hub out or set hubName in host.json"
                )
