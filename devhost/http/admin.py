"""`/admin`: status, the list of functions, keys, starting a function manually, and the HTML pages.

Invariant: every path here but the ping needs the master key (`access.py`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import time
from typing import Any

from starlette.types import Receive, Scope, Send

from devhost import VERSION
from devhost.app.dispatch import Dispatcher
from devhost.asgi.replies import BodyTooLarge, ClientGone, send_response
from devhost.extensions.contract import HTTP_TRIGGER, TIMER_TRIGGER, Function, FunctionFailed, HostError
from devhost.http.access import AdminAccess
from devhost.http.classic import header_values, read_body
from devhost.pages.pages import Pages
from devhost.settings.keys import Keys
from devhost.timers.timers import TimerService

logger = logging.getLogger("devhost.admin")

_BODY_LIMIT_BYTES = 1 << 20
_PING_HEADERS = [(b"cache-control", b"no-store,no-cache"), (b"pragma", b"no-cache")]


class Admin:
    """The admin API of one host."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        timers: TimerService,
        keys: Keys,
        access: AdminAccess,
        route_prefix: str,
        pages: Pages,
    ) -> None:
        self._dispatcher = dispatcher
        self._timers = timers
        self._keys = keys
        self._access = access
        self._prefix = route_prefix
        self._pages = pages
        self._started = time.monotonic()
        self._running: set[asyncio.Task[None]] = set()
        self._functions = {function.name.lower(): function for function in dispatcher.context.functions}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = [part.lower() for part in scope["path"].strip("/").split("/")[1:]]
        method = scope["method"]
        if parts == ["host", "ping"] and method in {"GET", "POST"}:
            await send_response(send, 200, _PING_HEADERS)
        elif not parts:
            await send_response(send, 404)
        elif not await self._access.admits(scope, send):
            return
        elif parts == ["host", "keys"] and method == "GET":
            await self._send_keys(send, "host", self._keys.host)
        elif parts == ["host", "restart"] and method == "POST":
            await self._restart(send)
        elif parts == ["host", "status"] and method == "GET":
            await _send_json(send, self._status())
        elif parts[:1] == ["pages"] and method == "GET":
            await self._pages(scope, send)
        elif parts == ["functions"] and method == "GET":
            await _send_json(send, [self._describe(function) for function in self._functions.values()])
        elif parts[:1] == ["functions"] and len(parts) in {2, 3} and parts[1] in self._functions:
            await self._function(self._functions[parts[1]], parts[2:], scope, receive, send)
        else:
            await send_response(send, 404)

    async def close(self) -> None:
        """Cancel manually started functions that still run."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _restart(self, send: Send) -> None:
        """Load the app anew without ending what runs; 409 with the reason when it cannot be loaded."""
        try:
            await self._dispatcher.renew()
        except HostError as error:
            logger.error("the app goes on as it was: %s", error)
            await _send_json(send, {"error": str(error)}, status=409)
            return
        await send_response(send, 202)

    async def _function(self, function: Function, rest: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        if not rest and scope["method"] == "GET":
            await _send_json(send, self._describe(function))
        elif rest == ["status"] and scope["method"] == "GET":
            await _send_json(send, {"errors": []})
        elif rest == ["keys"] and scope["method"] == "GET":
            await self._send_keys(send, f"functions/{function.name}", self._keys.functions[function.name])
        elif not rest and scope["method"] == "POST":
            await self._start(function, scope, receive, send)
        else:
            await send_response(send, 404)

    async def _send_keys(self, send: Send, of: str, key: str) -> None:
        link = f"{self._dispatcher.context.base_url}/admin/{of}/keys"
        keys = {"keys": [{"name": "default", "value": key}], "links": [{"rel": "self", "href": link}]}
        await _send_json(send, keys, is_secret=True)

    async def _start(self, function: Function, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a function in the background; answers 202 whatever its outcome."""
        if not header_values(scope).get("content-type", "").partition(";")[0].strip().lower().endswith("json"):
            await send_response(send, 415)
            return
        try:
            body = await read_body(receive, _BODY_LIMIT_BYTES)
            given = json.loads(body) if body else {}
            if not isinstance(given, dict):
                raise ValueError("the body must be an object")
        except ClientGone:
            return
        except BodyTooLarge:
            await send_response(send, 413)
            return
        except ValueError as exc:
            await _send_json(send, {"error": f'send {{"input": "..."}}: {exc}'}, status=400)
            return
        if function.trigger.type == HTTP_TRIGGER or function.disabled:
            logger.warning(
                "%s is not run by hand: %s", function.name, "disabled" if function.disabled else "call its URL"
            )
            await send_response(send, 202)
            return
        given_input = given.get("input") or ""
        text = given_input if isinstance(given_input, str) else json.dumps(given_input)
        task = asyncio.create_task(self._run(function, text))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await send_response(send, 202)

    async def _run(self, function: Function, text: str) -> None:
        try:
            if function.trigger.type == TIMER_TRIGGER:
                await self._timers.run_by_hand(function)
            else:
                await self._dispatcher.invoke(function, text)
        except FunctionFailed:
            # The dispatcher has logged the failure, and nobody waits for the outcome.
            logger.debug("%s, started by hand, failed", function.name)

    def _status(self) -> dict[str, Any]:
        return {
            "id": platform.node().lower(),
            "functionAppContentEditingState": "Unknown",
            "platformVersion": "",
            "state": "Running",
            "version": VERSION,
            "versionDetails": f"devhost {VERSION}",
            "instanceId": f"{platform.node()}-{os.getpid()}",
            "computerName": platform.node(),
            "processUptime": int((time.monotonic() - self._started) * 1000),
        }

    def _describe(self, function: Function) -> dict[str, Any]:
        base = self._dispatcher.context.base_url
        bindings = [dict(binding.raw) for binding in (function.trigger, *function.inputs, *function.outputs)]
        folder = str(self._dispatcher.context.app_dir)
        config = {"name": function.name, "entryPoint": function.name, "functionDirectory": folder, "bindings": bindings}
        description: dict[str, Any] = {
            "name": function.name,
            "language": "python",
            "href": f"{base}/admin/functions/{function.name}",
            "invoke_url_template": None,
            "isDirect": False,
            "isDisabled": function.disabled,
            "isProxy": False,
            "config": config | {"language": "python", "scriptFile": "function_app.py"},
        }
        if function.trigger.type == HTTP_TRIGGER:
            route = str(function.trigger.raw.get("route") or function.name).strip("/")
            description["invoke_url_template"] = "/".join(part for part in (base, self._prefix, route) if part)
        return description


async def _send_json(send: Send, value: Any, status: int = 200, *, is_secret: bool = False) -> None:
    headers = [(b"content-type", b"application/json; charset=utf-8")]
    headers += [(b"cache-control", b"no-store")] if is_secret else []
    await send_response(send, status, headers, json.dumps(value).encode())
