"""The built-in activity behind `context.call_http`: one HTTP request made by the host.

Returns the first response, whatever it is: also a 202 with a Location (`../fidelity.py` says why).
"""

from __future__ import annotations

from typing import cast

import aiohttp

from devhost.durable.store import jsontext

_TIMEOUT_S = 100.0
_CONTENT_HEADERS = frozenset(
    {"allow", "content-disposition", "content-encoding", "content-language", "content-length", "content-location"}
    | {"content-md5", "content-range", "content-type", "expires", "last-modified"}
)
"""What .NET counts to a response's content: the extension hands on the other headers only."""


class HttpActivityFailed(Exception):
    """The request could not be made; `str()` says why."""


class HttpActivity:
    """One client session, made on first use."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def call(self, request_text: str) -> str:
        """Make the request an orchestrator asked for.

        request_text: JSON object with method, uri, content, headers, tokenSource.
        Returns the JSON object `{"statusCode", "headers", "content"}`. Raises HttpActivityFailed.
        """
        request = jsontext.loads(request_text)
        if not isinstance(request, dict):
            raise HttpActivityFailed("the HTTP request is not an object")
        if request.get("tokenSource"):
            raise HttpActivityFailed(
                "call_http with a token source needs a managed identity, which does not exist on this machine"
            )
        headers = {str(k): str(v) for k, v in cast("dict[str, object]", request.get("headers") or {}).items()}
        content = request.get("content")
        if content is not None and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "text/plain; charset=utf-8"
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        try:
            async with self._session.request(
                str(request.get("method") or "GET").upper(),
                str(request.get("uri") or ""),
                data=None if content is None else str(content).encode(),
                headers=headers,
            ) as response:
                text = await response.text(errors="replace")
                answer = {
                    "statusCode": response.status,
                    "headers": {
                        name: ",".join(response.headers.getall(name))
                        for name in response.headers
                        if name.lower() not in _CONTENT_HEADERS
                    },
                    "content": text,
                }
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ConnectionRefusedError):
                raise HttpActivityFailed(f"Connection refused ({error.host}:{error.port})") from error
            raise HttpActivityFailed(f"{type(error).__name__}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise HttpActivityFailed(f"{type(error).__name__}: {error}") from error
        return jsontext.dumps(answer)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
