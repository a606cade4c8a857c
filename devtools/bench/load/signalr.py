"""A SignalR socket as the standard client opens it: negotiate with the service, connect, shake hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp

_HANDSHAKE = '{"protocol":"json","version":1}\x1e'
_LIMIT_S = 20.0


@asynccontextmanager
async def signalr_socket(
    http: aiohttp.ClientSession, info: Mapping[str, str]
) -> AsyncIterator[tuple[str, aiohttp.ClientWebSocketResponse]]:
    """The connection's id, and its open socket. info: the app's answer to negotiate.

    Raises aiohttp.ClientError, TimeoutError.
    """
    url, token = info["url"], {"Authorization": f"Bearer {info['accessToken']}"}
    parts = urlsplit(url)
    negotiate = parts._replace(path=parts.path.rstrip("/") + "/negotiate", query=f"{parts.query}&negotiateVersion=1")
    timeout = aiohttp.ClientTimeout(total=_LIMIT_S)
    async with http.post(negotiate.geturl(), headers=token, timeout=timeout, raise_for_status=True) as response:
        connection = await response.json()
    async with http.ws_connect(f"{url}&id={connection['connectionToken']}", headers=token) as socket:
        await socket.send_str(_HANDSHAKE)
        answer = await socket.receive(timeout=_LIMIT_S)
        if answer.data != "{}\x1e":
            raise aiohttp.ClientPayloadError(f"the SignalR handshake was answered with {answer.data!r}")
        yield connection["connectionId"], socket
