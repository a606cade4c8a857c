"""The REST API for sending messages and managing groups: version 1 and api-version 2022-06-01.

Invariant: every call carries a token for exactly its own address. Intentionally absent: health probes, since
`/api/health` belongs to the function app on the same origin.
Source: Azure SignalR Service data plane REST API, v1 and 2022-06-01.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from devhost.signalr.service import tokens
from devhost.signalr.service.hub import Hub
from devhost.signalr.service.service import SignalRService, is_hub_name

_API_VERSION = re.compile(r"20\d\d-\d\d-\d\d(-preview)?")
_PATH = re.compile(r"/api/(?P<v1>v1/)?hubs/(?P<hub>[^/]+)(?:/(?P<rest>.+))?")
_MAX_GROUP_NAME = 1024


def data_plane_routes(service: SignalRService) -> list[BaseRoute]:
    app = _DataPlane(service)
    return [Route("/api/v1/hubs/{path:path}", app), Route("/api/hubs/{path:path}", app)]


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _DataPlane:
    def __init__(self, service: SignalRService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except _Refused as exc:
            error = {"code": str(exc.status), "message": str(exc)}
            response = JSONResponse(error, status_code=exc.status)
            if exc.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        # The raw path: an encoded slash inside a group name must not split it.
        raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
        path = raw_path.decode("latin-1").partition("?")[0]
        match = _PATH.fullmatch(path)
        if match is None or not is_hub_name(match["hub"]):
            raise _Refused(404 if match is None else 400, "No hub is named in this path.")
        self._authorize(request, path)
        query = parse_qs(request.url.query, keep_blank_values=True)
        is_v1 = match["v1"] is not None
        if not is_v1 and not _API_VERSION.fullmatch(query.get("api-version", [""])[0]):
            raise _Refused(400, "The query must name an api-version, such as 2022-06-01.")
        segments = [unquote(part) for part in (match["rest"] or "").split("/")] if match["rest"] else []
        return await _Call(self._service, request, match["hub"], query, is_v1=is_v1).run(segments)

    def _authorize(self, request: Request, path: str) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise _Refused(401, "An access token is needed: Authorization: Bearer TOKEN.")
        origins = {self._service.endpoint, f"{request.url.scheme}://{request.url.netloc}"}
        audiences = {f"{origin}{form}" for origin in origins for form in (path, unquote(path))}
        try:
            tokens.verify(token.strip(), keys=self._service.keys, audiences=audiences)
        except tokens.TokenRefused as exc:
            raise _Refused(401, f"The access token was refused: {exc}.") from exc


class _Call:
    """One authorised call."""

    def __init__(
        self, service: SignalRService, request: Request, hub: str, query: dict[str, list[str]], *, is_v1: bool
    ) -> None:
        self._service = service
        self._request = request
        self._query = query
        self._is_v1 = is_v1
        self._hub: Hub = service.hub(hub)

    async def run(self, segments: list[str]) -> Response:
        method = self._request.method
        if any(not segment for segment in segments):
            raise _Refused(400, "A name in the path is empty.")
        match segments:
            case []:
                return await self._send(method, self._is_v1)
            case [":send"]:
                return await self._send(method, not self._is_v1)
            case [":closeConnections"]:
                return self._close(method)
            case ["connections", connection_id, *rest]:
                return await self._connection(method, connection_id, rest)
            case ["groups", group, *rest]:
                return await self._group(method, group, rest)
            case ["users", user_id, *rest]:
                return await self._user(method, user_id, rest)
            case _:
                raise _not_found()

    async def _connection(self, method: str, connection_id: str, rest: list[str]) -> Response:
        hub = self._hub
        match rest:
            case []:
                if method == "DELETE":
                    hub.close(hub.receivers(connection_id=connection_id), reason=self._one("reason"))
                    return Response(status_code=202 if self._is_v1 else 200)
                if method in {"GET", "HEAD"}:
                    return _found(connection_id in hub.connections)
                return await self._send(method, self._is_v1, connection_id=connection_id)
            case [":send"]:
                return await self._send(method, not self._is_v1, connection_id=connection_id)
            case ["groups"]:
                _only(method, "DELETE")
                hub.remove_connection_from_all_groups(connection_id)
                return Response(status_code=200)
            case _:
                raise _not_found()

    async def _group(self, method: str, group: str, rest: list[str]) -> Response:
        hub = self._hub
        if len(group) > _MAX_GROUP_NAME:
            raise _Refused(400, f"A group name may have at most {_MAX_GROUP_NAME} characters.")
        match rest:
            case []:
                if method in {"GET", "HEAD"}:
                    return _found(group in hub.groups)
                return await self._send(method, self._is_v1, group=group)
            case [":send"]:
                return await self._send(method, not self._is_v1, group=group)
            case [":closeConnections"]:
                return self._close(method, group=group)
            case ["connections", connection_id]:
                _only(method, "PUT", "DELETE")
                change = hub.add_connection_to_group if method == "PUT" else hub.remove_connection_from_group
                return _found(change(connection_id, group))
            case ["users", user_id]:
                return self._user_group(method, user_id, group)
            case _:
                raise _not_found()

    async def _user(self, method: str, user_id: str, rest: list[str]) -> Response:
        match rest:
            case []:
                if method in {"GET", "HEAD"}:
                    return _found(user_id in self._hub.users)
                return await self._send(method, self._is_v1, user_id=user_id)
            case [":send"]:
                return await self._send(method, not self._is_v1, user_id=user_id)
            case [":closeConnections"]:
                return self._close(method, user_id=user_id)
            case ["groups"]:
                _only(method, "DELETE")
                self._hub.remove_user_from_all_groups(user_id)
                return Response(status_code=200 if self._is_v1 else 204)
            case ["groups", group]:
                return self._user_group(method, user_id, group)
            case _:
                raise _not_found()

    def _user_group(self, method: str, user_id: str, group: str) -> Response:
        _only(method, "GET", "HEAD", "PUT", "DELETE")
        if method == "PUT":
            self._hub.add_user_to_group(user_id, group, ttl_s=self._ttl())
            return Response(status_code=202 if self._is_v1 else 200)
        if method == "DELETE":
            self._hub.remove_user_from_group(user_id, group)
            return Response(status_code=202 if self._is_v1 else 204)
        return _found(self._hub.user_is_in_group(user_id, group))

    async def _send(
        self,
        method: str,
        is_served: bool,
        *,
        connection_id: str | None = None,
        user_id: str | None = None,
        group: str | None = None,
    ) -> Response:
        if not is_served:
            raise _not_found()
        _only(method, "POST")
        target, arguments = await self._message()
        receivers = self._hub.receivers(connection_id=connection_id, user_id=user_id, group=group)
        try:
            self._hub.send(target, arguments, receivers, excluded=self._excluded())
        except ValueError as exc:
            raise _Refused(400, f"The arguments cannot be sent: {exc}.") from exc
        return Response(status_code=202)

    def _close(self, method: str, *, user_id: str | None = None, group: str | None = None) -> Response:
        if self._is_v1:
            raise _not_found()
        _only(method, "POST")
        receivers = self._hub.receivers(user_id=user_id, group=group)
        self._hub.close(receivers, reason=self._one("reason"), excluded=self._excluded())
        return Response(status_code=204)

    async def _message(self) -> tuple[str, list[Any]]:
        body = bytearray()
        async for chunk in self._request.stream():
            body += chunk
            if len(body) > self._service.limits.message_bytes:
                raise _Refused(413, f"A message may have {self._service.limits.message_bytes} bytes.")
        try:
            message = json.loads(body)
        except ValueError as exc:
            raise _Refused(400, "The body must be JSON.") from exc
        if not isinstance(message, dict):
            raise _Refused(400, "The body must be an object with target and arguments.")
        fields = {name.lower(): value for name, value in message.items()}
        if fields.get("rawbytes") is not None or fields.get("rawonly"):
            raise _Refused(400, "rawBytes is not supported by the dev host.")
        target, arguments = fields.get("target"), fields.get("arguments")
        if not isinstance(target, str) or not target:
            raise _Refused(400, "target must be a non-empty string.")
        if arguments is not None and not isinstance(arguments, list):
            raise _Refused(400, "arguments must be an array.")
        return target, arguments or []

    def _excluded(self) -> frozenset[str]:
        return frozenset(self._query.get("excluded", ()))

    def _ttl(self) -> float | None:
        text = self._one("ttl")
        if text is None:
            return None
        if not text.isdecimal():
            raise _Refused(400, "ttl must be a number of seconds.")
        return float(text)

    def _one(self, name: str) -> str | None:
        return self._query.get(name, [None])[0]


def _found(is_there: bool) -> Response:
    return Response(status_code=200 if is_there else 404)


def _not_found() -> _Refused:
    return _Refused(404, "There is no such operation.")


def _only(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise _Refused(405, f"{method} is not one of {', '.join(allowed)}.")
