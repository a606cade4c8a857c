"""Where tools may send HTTP requests: the allow-list of names, and the rules for addresses.

Implements no port: `connecting.py` asks it before it connects.

A request has to pass two checks: the URL's host and port are on the allow-list, and all addresses of the host are
public. An entry that is itself an address (or `localhost`) allows exactly that address, even a private one, since the
operator named it explicitly. A list may let through every public host beside its entries, over https and its own port.

Invariant: the address checked is the one that the connection uses, after name lookup. IPv6 addresses that embed another
address are refused, not unwrapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from yarl import URL

from shared.errors import ConfigError, ToolRefused

type Address = IPv4Address | IPv6Address

# Metadata services give credentials to any process on the machine: refused, even when listed.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # Azure IMDS, AWS, Google, DigitalOcean, OpenStack
        "168.63.129.16",  # Azure's wire server: a public address that only virtual machines can reach
        "169.254.170.2",  # AWS container credentials
        "169.254.170.23",  # AWS EKS pod identity
        "fd00:ec2::254",  # AWS over IPv6
        "fd00:ec2::23",
        "fd20:ce::254",  # Google over IPv6
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    )
)
# Non-public networks that the standard library's `is_global` accepts.
_NOT_PUBLIC_V4 = (IPv4Network("192.88.99.0/24"), IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = (
    IPv6Network("2002::/16"),  # 6to4: carries an IPv4 address
    IPv6Network("2001::/23"),  # Teredo, ORCHID, benchmarking and other protocol assignments
    IPv6Network("2001:db8::/32"),
    IPv6Network("3fff::/20"),
)
_ISATAP = (0x00005EFE, 0x02005EFE)
_NUMBER_LABEL = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)


def is_public(address: Address) -> bool:
    """Whether an address is public unicast, reachable from anywhere on the Internet."""
    if isinstance(address, IPv4Address):
        return (
            address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC_V4)
        )
    if address.scope_id is not None or address not in _PUBLIC_V6 or not address.is_global:
        # Outside 2000::/3 are loopback, link-local, unique-local, multicast, IPv4-mapped, IPv4-compatible and NAT64.
        return False
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return not any(address in network for network in _NOT_PUBLIC_V6)


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    """As yarl normalises it, without a trailing dot."""
    port: int | None
    """None: the scheme's own port, 80 or 443."""
    address: Address | None
    """Set when the host is an address."""


_ANY_PUBLIC = _Entry("", None, None)
"""Allows only public addresses, since it names neither an address nor `localhost`."""


class AllowList:
    """A parsed allow-list of a setting."""

    def __init__(self, entries: Iterable[str], *, setting: str, public: bool = False) -> None:
        """entries: `host[:port]`, IPv6 in brackets. public: also every host with public addresses, over https and its
        own port. Raises ConfigError, which names setting and entry.
        """
        self._setting = setting
        self._entries = tuple(_parse(entry, setting) for entry in entries)
        self._is_public = public

    def check_url(self, url: URL) -> None:
        """Raises ToolRefused when no entry allows the URL's host and port."""
        if self._entry_for(url) is None:
            raise ToolRefused(f"The host {_shown(url)} is not on the allow-list of this deployment ({self._setting}).")

    def check_address(self, url: URL, address: Address) -> None:
        """Raises ToolRefused when a connection for `url` may not go to `address`."""
        self.check_url(url)
        entry = self._entry_for(url)
        if entry is None or not _may_connect(entry, address):
            raise ToolRefused(
                f"The host {_shown(url)} resolves to an address that is not public; it was not contacted.",
            )

    def _entry_for(self, url: URL) -> _Entry | None:
        host, address = _normal(url)
        for entry in self._entries:
            port_fits = url.is_default_port() if entry.port is None else entry.port == url.port
            same_host = entry.address == address if address is not None else entry.host == host
            if port_fits and same_host:
                return entry
        return _ANY_PUBLIC if self._is_public and url.scheme == "https" and url.is_default_port() else None


def _may_connect(entry: _Entry, address: Address) -> bool:
    if address in _METADATA:
        return False
    if entry.address is not None:
        return address == entry.address
    if entry.host == "localhost" or entry.host.endswith(".localhost"):
        return address.is_loopback
    return is_public(address)


def _parse(text: str, setting: str) -> _Entry:
    problem = f"{setting}: {text!r} is not host[:port]"
    if re.search(r"[\s/@?#\\*]", text):
        raise ConfigError(f"{problem}: no scheme, path, user or wildcard")
    bare_v6 = text.count(":") > 1 and not text.startswith("[")
    try:
        url = URL(f"http://[{text}]/" if bare_v6 else f"http://{text}/")
        host, address = _normal(url)
        port = url.explicit_port
    except ValueError:
        raise ConfigError(problem) from None
    if not host or port == 0 or text.endswith(":"):
        raise ConfigError(problem)
    if address is None and _NUMBER_LABEL.fullmatch(host.rpartition(".")[2]):
        raise ConfigError(f"{problem}: write an IPv4 address in full, as four numbers")
    if address is not None and (address in _METADATA or _carries_metadata(address)):
        raise ConfigError(f"{problem}: tools may never reach metadata services")
    return _Entry(host, port, address)


def _carries_metadata(address: Address) -> bool:
    return isinstance(address, IPv6Address) and IPv4Address(int(address) & 0xFFFFFFFF) in _METADATA


def _normal(url: URL) -> tuple[str, Address | None]:
    host = (url.raw_host or "").rstrip(".")
    try:
        return host, ip_address(host)
    except ValueError:
        return host, None


def _shown(url: URL) -> str:
    return f"{url.host}:{url.port}"
