"""Connections to addresses that the allow-list lets through, for every client whose URLs others choose.

A name is looked up once per connection, every address is checked, and the connection goes to a checked address. So a
DNS answer that changes between check and use (DNS rebinding) has no effect.

Invariant: a request is sent at most once: no connection is reused and none is retried.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from shared.adapters.http.guard import AllowList
from shared.errors import Transient
from shared.work_pool import PoolLimits, WorkPool

CONNECT_TIMEOUT_S = 5.0

type Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a host and port, in the order to try them."""


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


_LOOKUPS = PoolLimits(threads=8, per_user=2, waiting=64, waiting_per_user=16, wait_s=10, retry_after_s=5)


class SystemLookup:
    """The operating system's answers. A lookup cannot be stopped, so those of one host take two threads at most."""

    def __init__(self, resolve: Callable[[str, int], list[str]] = _addresses) -> None:
        """resolve: blocks; raises OSError."""
        self._resolve = resolve
        self._pool = WorkPool("lookups", _LOOKUPS)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Raises OSError."""
        try:
            return await self._pool.run(host, lambda: self._resolve(host, port))
        except Transient as exc:
            raise OSError(f"the name {host} is being looked up too often") from exc


def guarded_session(allow: AllowList, url: URL, lookup: Lookup) -> aiohttp.ClientSession:
    """A client for one request to `url`, without cookies, proxies and decompression. Raises ToolRefused."""
    check_address(allow, url)
    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(allow, url, lookup), use_dns_cache=False, force_close=True
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,  # a proxy would connect to unchecked addresses
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        middlewares=(_SendOnce(),),
    )


def check_address(allow: AllowList, url: URL) -> None:
    """What can be said before the name is looked up. Raises ToolRefused."""
    allow.check_url(url)
    # aiohttp does not call the resolver for a host that is an IP address.
    try:
        address = ip_address(url.raw_host or "")
    except ValueError:
        return
    allow.check_address(url, address)


class _CheckedResolver(AbstractResolver):
    """Returns only allowed addresses; a name with one forbidden address is refused as a whole."""

    def __init__(self, allow: AllowList, url: URL, lookup: Lookup) -> None:
        self._allow = allow
        self._url = url
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = [ip_address(text) for text in await self._lookup(host, port)]
        if not addresses:
            raise OSError(f"no address for {host}")
        for address in addresses:
            self._allow.check_address(self._url, address)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held open."""


class _SendOnce:
    """Stops aiohttp from resending PUT, DELETE and others on a disconnect: a tool call must not run twice."""

    def __init__(self) -> None:
        self._sent = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._sent:
            raise aiohttp.ServerDisconnectedError
        self._sent = True
        return await handler(request)
