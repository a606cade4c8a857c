"""What a streaming function sees of a request: the host is a proxy in front of the worker.

Invariant: `x-forwarded-*` are the host's own words. A caller's are overwritten or dropped, so an app may trust them.
Source: requests recorded on Azure Functions host 4.1037, whose proxy is YARP.
"""

from __future__ import annotations

from starlette.types import Scope

type Headers = list[tuple[bytes, bytes]]

INVOCATION_HEADER = b"x-ms-invocation-id"

_OF_THE_HOST = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        INVOCATION_HEADER,
    }
)
_OF_THE_CONNECTION = frozenset(
    {
        b"alt-svc",
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"upgrade",
        b"upgrade-insecure-requests",
    }
)


def proxied_headers(scope: Scope, invocation_id: str, worker: bytes) -> Headers:
    """The request's headers as the worker gets them from Azure's proxy: `Host` is the worker, what belongs to the
    caller's connection is gone, and repeated headers are one.

    worker: host and port of its server.
    """
    joined: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _OF_THE_HOST or name in _OF_THE_CONNECTION:
            continue
        between = b"; " if name == b"cookie" else b", "
        joined[name] = joined[name] + between + value if name in joined else value
    joined[b"host"] = worker
    if joined.get(b"expect", b"").lower() == b"100-continue":
        del joined[b"expect"]  # the host has answered it
    if scope["method"] == "TRACE" and b"content-length" not in joined:
        joined[b"content-length"] = b"0"
    return [*joined.items(), *_own_headers(scope, invocation_id)]


def is_never_forwarded(headers: Headers) -> bool:
    """Whether Azure's proxy fails to pass these headers on, which leaves the worker waiting for the request."""
    return any(name == INVOCATION_HEADER or not value.isascii() for name, value in headers)


def _own_headers(scope: Scope, invocation_id: str) -> Headers:
    own = [(b"x-forwarded-proto", str(scope.get("scheme", "http")).encode())]
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    if host is not None:
        own.append((b"x-forwarded-host", host))
    client = scope.get("client")
    if client is not None:
        own.append((b"x-forwarded-for", str(client[0]).encode()))
    return [*own, (INVOCATION_HEADER, invocation_id.encode())]
