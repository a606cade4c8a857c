"""Entities in the management API: read, list, signal.

Invariant: reads show stored state only; a signal is stored before it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from devhost.durable.engine import BadRequest, Engine
from devhost.durable.management.queries import (
    PAGE_HEADER,
    NotJson,
    flag,
    json_body,
    page_size,
    start_after,
    time_of,
    token_after,
)
from devhost.durable.management.replies import json_reply
from devhost.durable.management.status import seconds
from devhost.durable.store import jsontext
from devhost.durable.workers.entities import entity_id, split_entity_id


class EntityApi:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def read(self, request: Request, path: Sequence[str], query: Mapping[str, str]) -> Response:
        """One entity's state with name and key, else a list."""
        if len(path) > 2:
            return Response(status_code=404)
        if len(path) < 2:
            return self._list(request, path[0] if path else "", query)
        row = self._engine.store.entity(entity_id(path[0], path[1]))
        if row is None or not row.exists:
            return Response(status_code=404)
        return Response(row.state or "null", media_type="application/json")

    async def signal(self, request: Request, path: Sequence[str], query: Mapping[str, str]) -> Response:
        return await self._signal(request, path, query.get("op", ""))

    async def delete(self, request: Request, path: Sequence[str], query: Mapping[str, str]) -> Response:
        return await self._signal(request, path, "delete")

    async def _signal(self, request: Request, path: Sequence[str], operation: str) -> Response:
        if len(path) != 2:
            return Response(status_code=404)
        problem = self._engine.core.registry.check_entity(path[0])
        if problem is not None:
            raise BadRequest(problem, kind=None)
        try:
            body = await json_body(request, may_be_empty=True)
        except NotJson as error:
            raise BadRequest(f"Could not parse JSON content: {error}", kind=None) from error
        self._engine.check_size("the input", body)
        await self._engine.entities.signal(entity_id(path[0], path[1]), operation, body)
        return Response(status_code=202)

    def _list(self, request: Request, name: str, query: Mapping[str, str]) -> Response:
        top = page_size(query)
        rows = self._engine.store.entities(
            prefix=f"@{name.lower()}@" if name else "@",
            after=start_after(request),
            from_us=time_of(query, "lastoperationtimefrom"),
            to_us=time_of(query, "lastoperationtimeto"),
            top=top + 1,
        )
        headers: dict[str, str] = {}
        if len(rows) > top:
            rows = rows[:top]
            headers[PAGE_HEADER] = token_after(rows[-1].entity_id)
        shows_state = flag(query, "fetchstate")
        body: list[jsontext.Json] = []
        for row in rows:
            entity_name, key = split_entity_id(row.entity_id)
            item: dict[str, jsontext.Json] = {
                "entityId": {"name": entity_name, "key": key},
                "lastOperationTime": seconds(row.updated_us),
            }
            if shows_state:
                item["state"] = jsontext.loads(row.state or "null")
            body.append(item)
        return json_reply(200, body, headers)
