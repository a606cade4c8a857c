"""`signalRTrigger`: functions that hear what clients of a hub call, and that they come and go.

The service posts each event to `/runtime/webhooks/signalr` of the app (its *upstream*), signed with the access key.
Invariant: a function runs only for an event that whoever holds the key of the function's service has signed.

Source: azure-functions-signalrservice-extension, `SignalRTriggerDispatcher`, its executors, `SignalRRequestResolver`.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import ormsgpack
from starlette.requests import Request
from starlette.responses import Response

from devhost.extensions.contract import Binding, Function, FunctionFailed, Host, HostError, TriggerData
from devhost.signalr.service.messagepack import MESSAGEPACK
from devhost.signalr.service.protocol import INVOCATION, JSON, Frame
from devhost.signalr.service.service import is_hub_name
from devhost.signalr.service.upstream import (
    CONNECTED,
    CONNECTIONS,
    DISCONNECTED,
    HEADER_PREFIX,
    JSON_TYPE,
    MESSAGES,
    PACK_TYPE,
    as_text,
    signature,
)

TRIGGER = "signalRTrigger"
WEBHOOK = "/runtime/webhooks/signalr"

_KEYS = {"type", "name", "direction", "datatype", "hubname", "category", "event", "parameternames"}
_MORE_KEYS = {"connectionstringsetting", "properties"}

logger = logging.getLogger("devhost.signalr")


@dataclass(frozen=True, slots=True)
class Trigger:
    """One function and the event that runs it."""

    function: Function
    setting: str
    """App setting with the connection string of the service that it hears."""
    parameter_names: tuple[str, ...]
    """Names of a call's arguments in binding expressions; empty: any number of arguments is taken."""


type Key = tuple[str, str, str]
"""Hub, category and event, in lower case."""


def find_triggers(functions: Sequence[Function], default_setting: str) -> dict[Key, Trigger]:
    """Raises HostError naming the function whose trigger Azure's extension would refuse, too."""
    found: dict[Key, Trigger] = {}
    for function in functions:
        if function.trigger.type != TRIGGER:
            continue
        key, trigger = _read(function, function.trigger, default_setting)
        if key in found:
            raise HostError(
                f"function {function.name}: {found[key].function.name} already has the trigger of hub {key[0]}, "
                f"category {key[1]}, event {key[2]}"
            )
        found[key] = trigger
    return found


def _read(function: Function, binding: Binding, default_setting: str) -> tuple[Key, Trigger]:
    where = f"function {function.name}, binding {binding.name}"
    fields = {name.lower(): value for name, value in binding.raw.items()}
    if unknown := sorted(name for name in binding.raw if name.lower() not in _KEYS | _MORE_KEYS):
        raise HostError(f"{where}: {TRIGGER} has no property {', '.join(unknown)} in the dev host")
    hub, category, event = (str(fields.get(name) or "") for name in ("hubname", "category", "event"))
    if not is_hub_name(hub):
        raise HostError(
            f"{where}: hubName must be letters, digits and underscores, beginning with a letter, not {hub!r}"
        )
    if category.lower() not in {CONNECTIONS, MESSAGES}:
        raise HostError(f"{where}: category must be {CONNECTIONS} or {MESSAGES}, not {category!r}")
    if category.lower() == CONNECTIONS and event.lower() not in {CONNECTED, DISCONNECTED}:
        raise HostError(
            f"{where}: event must be {CONNECTED} or {DISCONNECTED} in category {CONNECTIONS}, not {event!r}"
        )
    if not event:
        raise HostError(f"{where}: event must be the name of the method that clients call")
    names = fields.get("parameternames") or []
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise HostError(f"{where}: parameterNames must be an array of strings")
    if len({name.lower() for name in names}) < len(names):
        raise HostError(f"{where}: parameterNames must differ by more than upper and lower case")
    setting = str(fields.get("connectionstringsetting") or default_setting)
    return (hub.lower(), category.lower(), event.lower()), Trigger(function, setting, tuple(names))


@dataclass(frozen=True, slots=True)
class _Call:
    """A client's call. invocation_id: empty when the client expects no answer."""

    target: str
    arguments: list[Any]
    invocation_id: str


class _Malformed(Exception):
    """The body is not what the event's category has."""


class Webhook:
    """Answers the service's posts. keys: the access keys of the service that an app setting names."""

    def __init__(self, host: Host, triggers: Mapping[Key, Trigger], keys: Mapping[str, Sequence[str]]) -> None:
        self._host = host
        self._triggers = triggers
        self._keys = keys

    async def answer(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in {JSON_TYPE, PACK_TYPE}:
            return Response(status_code=415)
        hub, category, event = (_header(request, name) for name in ("Hub", "Category", "Event"))
        connection_id = _header(request, "Connection-Id")
        if not (hub and category and event and connection_id):
            return Response(status_code=400)
        trigger = self._triggers.get((hub.lower(), category.lower(), event.lower()))
        if trigger is None:
            return Response(status_code=404)
        given = [one.strip().lower() for one in _header(request, "Signature").split(",")]
        signed = (signature(key, connection_id) for key in self._keys[trigger.setting])
        if not any(hmac.compare_digest(one.encode(), other.encode()) for one in signed for other in given):
            return Response(status_code=401)
        context = _context(request, hub, category, event, connection_id)
        try:
            return await self._run(trigger, context, category.lower(), event, await request.body(), kind)
        except _Malformed as exc:
            logger.warning("an event of SignalR's for %s cannot be read: %s", trigger.function.name, exc)
            return Response(status_code=500)

    async def _run(
        self, trigger: Trigger, context: dict[str, Any], category: str, event: str, body: bytes, kind: str
    ) -> Response:
        if category == CONNECTIONS:
            if event.lower() == DISCONNECTED:
                context["Error"] = _lower(_json(body)).get("error")
            try:
                await self._invoke(trigger, context, {})
            except FunctionFailed:
                # Who refuses a connection is heard; who fails when one has gone is not.
                return Response(status_code=403 if event.lower() == CONNECTED else 200)
            return Response()
        call = _read_pack(body) if kind == PACK_TYPE else _read_json(body)
        if call.target.lower() != event.lower():
            raise _Malformed(f"it calls {call.target!r}")
        context["Arguments"] = call.arguments
        result, error = None, None
        try:
            result = await self._invoke(trigger, context, _named(trigger, call.arguments))
        except FunctionFailed as exc:
            error = f"Result: Failure\nException: {exc.message}\nStack: {exc.stack}" if exc.stack else exc.message
        if not call.invocation_id:
            return Response()
        protocol = MESSAGEPACK if kind == PACK_TYPE else JSON
        frame: Frame = protocol.completion(call.invocation_id, result, error)
        return Response(frame, media_type="application/octet-stream")

    async def _invoke(self, trigger: Trigger, context: dict[str, Any], named: Mapping[str, Any]) -> Any:
        return await self._host.invoke_for_value(trigger.function, json.dumps(context), TriggerData(body=named))


def _header(request: Request, name: str) -> str:
    # Sent as UTF-8, and read as Latin-1 as any header.
    return request.headers.get(f"{HEADER_PREFIX}{name}", "").encode("latin-1").decode("utf-8", "replace")


def _context(request: Request, hub: str, category: str, event: str, connection_id: str) -> dict[str, Any]:
    """What the function gets, as `InvocationContext` is written."""
    query = _header(request, "Client-Query")
    claims: dict[str, str] = {}
    for part in _header(request, "User-Claims").split(","):
        name, found, value = part.partition(": ")
        if found:
            claims.setdefault(name.strip(), value.strip())
    return {
        "Arguments": None,
        "Error": None,
        "Category": category,
        "Event": event,
        "Hub": hub,
        "ConnectionId": connection_id,
        "UserId": _header(request, "User-Id") or None,
        "Headers": {_title(name): ",".join(request.headers.getlist(name)) for name in request.headers},
        "Query": {name: ",".join(values) for name, values in parse_qs(query.removeprefix("?")).items()} or None,
        "Claims": claims or None,
    }


def _title(name: str) -> str:
    """A header's name as the service writes it; the server that reads it has lowered it."""
    words = ["ASRS" if word == "asrs" else word.capitalize() for word in name.lower().split("-")]
    return "-".join(words)


def _named(trigger: Trigger, arguments: list[Any]) -> Mapping[str, Any]:
    """A call's arguments for binding expressions. Raises FunctionFailed when their number is another."""
    names = trigger.parameter_names
    if names and len(names) != len(arguments):
        logger.warning(
            "%s: the function accepts %d arguments but the message has %d",
            trigger.function.name,
            len(names),
            len(arguments),
        )
        raise FunctionFailed(f"Exception binding parameter '{trigger.function.trigger.name}'")
    return dict(zip(names, arguments, strict=False))


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.rstrip(b"\x1e") or b"{}")
    except ValueError as exc:
        raise _Malformed(f"not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise _Malformed("not a JSON object")
    return value


def _lower(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in fields.items()}


def _read_json(body: bytes) -> _Call:
    fields = _lower(_json(body))
    return _call(fields.get("type"), fields.get("invocationid"), fields.get("target"), fields.get("arguments"))


def _read_pack(body: bytes) -> _Call:
    try:
        parts = ormsgpack.unpackb(body, option=ormsgpack.OPT_NON_STR_KEYS)
        kind, _, invocation_id, target, arguments, *_ = parts
    except (ormsgpack.MsgpackDecodeError, TypeError, ValueError) as exc:
        raise _Malformed("not a call in MessagePack") from exc
    return _call(kind, invocation_id, target, arguments)


def _call(kind: object, invocation_id: object, target: object, arguments: object) -> _Call:
    if kind != INVOCATION or not isinstance(target, str) or not isinstance(arguments, list):
        raise _Malformed("not a call")
    return _Call(target, json.loads(json.dumps(arguments, default=as_text)), str(invocation_id or ""))
