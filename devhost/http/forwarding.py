"""What a streaming function sees of a request: in Azure the host is a proxy in front of the worker.

Invariant: `x-forwarded-*` are the host's own words. A caller's are overwritten or dropped, so an app may trust them.
Source: requests recorded on Azure Functions host 4.1037, whose proxy is YARP.
"""

from __future__ import annotations

from starlette.types import Scope

type Headers = list[tuple[bytes, bytes]]

WORKER = b"127.0.0.1:1"
"""Stands for the worker's own address. Nothing listens there, so a link that is made of it leads nowhere."""
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


def forwarded_headers(scope: Scope, invocation_id: str) -> Headers:
    """The request's headers with the host's own, and `Host` as the caller sent it."""
    kept = [(name, value) for name, value in scope["headers"] if name not in _OF_THE_HOST]
    return kept + _own_headers(scope, invocation_id)


def proxied_headers(scope: Scope, invocation_id: str) -> Headers:
    """The request's headers as the worker gets them from Azure's proxy: `Host` is the worker, what belongs to the
    caller's connection is gone, and repeated headers are one."""
    joined: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _OF_THE_HOST or name in _OF_THE_CONNECTION:
            continue
        between = b"; " if name == b"cookie" else b", "
        joined[name] = joined[name] + between + value if name in joined else value
    joined[b"host"] = WORKER
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
