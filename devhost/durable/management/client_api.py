"""The HTTP management API that the Durable SDK's client and the management links call.

Invariant: one set of handlers serves both prefixes; access is checked before a request is read. Statuses and bodies
are the extension's (`tests/devhost/real/recordings/answers.json`); where they are not, `../fidelity.py` says why.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from devhost.durable.binding import RPC_PREFIX, WEBHOOK_PREFIX, Links
from devhost.durable.engine import BadRequest, Engine, Exists, Gone, NotFound, Refused, WrongState
from devhost.durable.management import access
from devhost.durable.management.entity_api import EntityApi
from devhost.durable.management.queries import (
    PAGE_HEADER,
    NotJson,
    flag,
    json_body,
    page_size,
    seconds_of,
    start_after,
    statuses_of,
    time_of,
    token_after,
)
from devhost.durable.management.replies import SOMETHING_WRONG, error_reply, json_reply
from devhost.durable.management.status import history_events, output_value, status_body
from devhost.durable.store.records import Status

logger = logging.getLogger("devhost.durable")

_LONGEST_WAIT_S = 230.0
_LIVE_ID = "A non-terminal instance with this instance ID already exists."
_EXISTS = "DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException"
_UNFINISHED = frozenset({Status.PENDING, Status.RUNNING, Status.SUSPENDED, Status.CONTINUED_AS_NEW})

type _Handler = Callable[[Request, Sequence[str], Mapping[str, str]], Awaitable[Response]]


class ClientApi:
    def __init__(self, engine: Engine, links: Links) -> None:
        self._engine = engine
        self._links = links
        entity_api = EntityApi(engine)
        self._handlers: Mapping[tuple[str, str], _Handler] = {
            ("POST", "orchestrators"): self._start,
            ("GET", "instances"): self._read,
            ("POST", "instances"): self._command,
            ("DELETE", "instances"): self._purge,
            ("GET", "entities"): entity_api.read,
            ("POST", "entities"): entity_api.signal,
            ("DELETE", "entities"): entity_api.delete,
        }

    def routes(self) -> list[BaseRoute]:
        return [
            Route(f"{WEBHOOK_PREFIX}/{{path:path}}", _Door(self._public)),
            Route(f"{RPC_PREFIX}/{{path:path}}", _Door(self._rpc)),
        ]

    async def _public(self, request: Request) -> Response:
        if not access.has_key(request, self._links.key) and not access.is_local_program(request):
            return Response(status_code=401)
        return await self._answer(request)

    async def _rpc(self, request: Request) -> Response:
        if not access.is_local_program(request):
            return Response(status_code=404)
        return await self._answer(request)

    async def _answer(self, request: Request) -> Response:
        path = str(request.path_params["path"]).strip("/").split("/")
        query = {name.lower(): value for name, value in request.query_params.items()}
        handler = self._handlers.get((request.method, path[0].lower()))
        if handler is None:
            return Response(status_code=404)
        try:
            hub = query.get("taskhub")
            if hub and hub.lower() != self._links.hub.lower():
                raise BadRequest(f"Task hub '{hub}' is not served here; this host runs '{self._links.hub}'.")
            return await handler(request, path[1:], query)
        except BadRequest as error:
            message = str(error) if error.kind is None else error.message
            return error_reply(400, message, str(error), error.kind)
        except Refused as error:
            return error_reply(500, SOMETHING_WRONG, str(error), "System.InvalidOperationException")
        except Exists as error:
            if error.is_restart:
                return error_reply(409, _LIVE_ID, str(error), _EXISTS)
            return error_reply(409, str(error))
        except WrongState as error:
            # A bare JSON string, which the SDK's rewind raises as its exception's message.
            return json_reply(412, str(error))
        except NotFound:
            return Response(status_code=404)
        except Gone:
            return Response(status_code=410)
        except Exception as error:
            logger.exception("durable management API: %s %s failed", request.method, request.url.path)
            return error_reply(500, SOMETHING_WRONG, str(error), type(error).__name__)

    async def _start(self, request: Request, path: Sequence[str], query: Mapping[str, str]) -> Response:
        if not 1 <= len(path) <= 2:
            return Response(status_code=404)
        try:
            body = await json_body(request, may_be_empty=True)
        except NotJson as error:
            said = f"Unexpected end when reading JSON. Path '', {error}"
            return error_reply(500, SOMETHING_WRONG, said, "Newtonsoft.Json.JsonSerializationException")
        instance_id = await self._engine.start_instance(
            path[0],
            instance_id=path[1] if len(path) == 2 else None,
            input_text=body,
            version=query.get("version"),
        )
        wait_s, pause_s = seconds_of(query, "timeout"), seconds_of(query, "pollinginterval")
        if wait_s is not None and pause_s is not None:
            if wait_s < pause_s:
                text = f"Total timeout {wait_s:g} should be bigger than retry timeout {pause_s:g}"
                raise BadRequest(text, kind=None)
            wait_s = min(wait_s, _LONGEST_WAIT_S)
            await self._engine.core.wait_until_over(instance_id, wait_s)
            row = self._engine.status(instance_id)
            if row is not None and row.status is Status.COMPLETED:
                return json_reply(200, output_value(row))
            if row is not None and row.status not in _UNFINISHED:
                return json_reply(500 if row.status is Status.FAILED else 200, status_body(row))
        return self._accepted(instance_id)

    def _accepted(self, instance_id: str) -> Response:
        links = self._links.management(instance_id)
        headers = {"Location": links["statusQueryGetUri"], "Retry-After": "10"}
        return json_reply(202, dict(links), headers)

    async def _read(self, request: Request, path: Sequence[str], query: Mapping[str, str]) -> Response:
        if not path or not path[0]:
            return self._list(request, query)
        if len(path) > 1:
            return Response(status_code=404)
        row = self._engine.status(path[0])
        if row is None:
            return Response(status_code=404)
        show_input = flag(query, "showinput", default=True)
        body = status_body(row, show_input=show_input)
        if flag(query, "showhistory"):
            body["historyEvents"] = history_events(
                self._engine.store.history(row.gen),
                show_input=show_input,
                show_output=flag(query, "showhistoryoutput"),
            )
        if row.status in _UNFINISHED:
            return json_reply(202, body, {"Location": str(request.url), "Retry-After": "5"})
        failed = row.status is Status.FAILED and flag(query, "returninternalservererroronfailure")
        return json_reply(500 if failed else 200, body)

    def _list(self, request: Request, query: Mapping[str, str]) -> Response:
        top = page_size(query)
        rows = self._engine.store.instances(
            after=start_after(request),
            prefix=query.get("instanceidprefix", ""),
            created_from_us=time_of(query, "createdtimefrom"),
            created_to_us=time_of(query, "createdtimeto"),
            statuses=statuses_of(query),
            top=top + 1,
        )
        headers: dict[str, str] = {}
        if len(rows) > top:
            rows = rows[:top]
            headers[PAGE_HEADER] = token_after(rows[-1].instance_id)
        show_input = flag(query, "showinput", default=True)
        return json_reply(200, [status_body(row, show_input=show_input) for row in rows], headers)

    async def _command(self, request: Request, path: Sequence[str], query: Mapping[str, str]) -> Response:
        if len(path) < 2:
            return Response(status_code=404)
        engine, instance_id, verb, reason = self._engine, path[0], path[1].lower(), query.get("reason", "")
        if verb == "raiseevent" and len(path) == 3:
            # As in the real API, the instance is checked first.
            engine.require_live(instance_id)
            if not request.headers.get("content-type", "").lower().startswith("application/json"):
                raise BadRequest("Only application/json request content is supported", kind=None)
            try:
                body = await json_body(request, may_be_empty=False)
            except NotJson as error:
                read = "JToken" if str(error).startswith("line 0") else "JObject"
                said = f"Error reading {read} from JsonReader. Path '', {error}"
                kind = "Newtonsoft.Json.JsonReaderException"
                raise BadRequest(said, message="Invalid JSON content", kind=kind) from error
            await engine.raise_event(instance_id, path[2], body or "null")
        elif len(path) != 2:
            return Response(status_code=404)
        elif verb == "terminate":
            await engine.terminate(instance_id, reason)
        elif verb == "suspend":
            await engine.suspend(instance_id, reason)
        elif verb == "resume":
            await engine.resume(instance_id, reason)
        elif verb == "rewind":
            await engine.rewind(instance_id, reason)
        elif verb == "restart":
            with_new_id = flag(query, "restartwithnewinstanceid", default=True)
            return self._accepted(await engine.restart(instance_id, with_new_id=with_new_id))
        else:
            return Response(status_code=404)
        return Response(status_code=202)

    async def _purge(self, request: Request, path: Sequence[str], query: Mapping[str, str]) -> Response:
        if path and path[0]:
            if len(path) > 1:
                return Response(status_code=404)
            deleted = await self._engine.purge(path[0])
            return json_reply(200, {"instancesDeleted": deleted})
        created_from_us = time_of(query, "createdtimefrom")
        if created_from_us is None:
            # A bare JSON string, too.
            return json_reply(400, "Please provide value for 'createdTimeFrom' parameter.")
        deleted = await self._engine.purge_where(
            created_from_us=created_from_us,
            created_to_us=time_of(query, "createdtimeto"),
            statuses=statuses_of(query),
        )
        return json_reply(200, {"instancesDeleted": deleted}) if deleted else Response(status_code=404)


class _Door:
    """An ASGI app, so that the route accepts every method: a wrong method is 404, never 405."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)
