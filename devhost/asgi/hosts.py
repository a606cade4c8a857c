"""The names under which this host may be called.

A web page can let a name of its own resolve to 127.0.0.1 (DNS rebinding). The browser then lets the page read this
host's answers, and only the `Host` header shows that the request was meant for that name. A tunnel that rewrites `Host`
says in another header what its caller asked for.

Invariant: every name that a request gives as its destination is loopback or on the list; otherwise no code behind
`AllowedHosts.refusal` sees the request.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from devhost.asgi.replies import Refusal

HOSTS_SETTING = "DEVHOST_ALLOWED_HOSTS"
"""App setting: further host names, with commas between them."""

_HOST = re.compile(r"(?P<name>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_-])?\.?|\[[0-9a-f:.]+\])(?::[0-9]{0,5})?", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@]+)", re.IGNORECASE)
_FORWARDED = (b"x-forwarded-host", b"x-original-host")
_SHOWN_CHARACTERS = 100

type Headers = Iterable[tuple[bytes, bytes]]


class AllowedHosts:
    """Loopback names and addresses, and the names on a list."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """names: as from `name_of`."""
        self._names = frozenset(names)
        self.allows = lru_cache(maxsize=1024)(self._allows)

    @classmethod
    def parse(cls, text: str) -> AllowedHosts:
        """From the setting's value. Raises ValueError naming an entry that is not a host name."""
        names = []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name = name_of(entry.encode("ascii", "replace"))
            if name is None:
                raise ValueError(f"{entry!r} is not a host name such as chat.example")
            names.append(name)
        return cls(names)

    def _allows(self, host: bytes) -> bool:
        """Whether the value of a `Host` header names this host. Its port does not matter."""
        name = name_of(host)
        return name is not None and (is_loopback_name(name) or name in self._names)

    def allows_origin(self, origin: bytes) -> bool:
        """Whether an `Origin` header names this host or another program on this machine."""
        found = _ORIGIN.fullmatch(origin.decode("latin-1"))
        return found is not None and self.allows(found["host"].encode("latin-1"))

    def refusal(self, headers: Headers) -> Refusal | None:
        """Why a request with these headers is refused; None when every name in them is allowed."""
        hosts: list[bytes] = []
        forwarded: list[bytes] = []
        for name, value in headers:
            if name == b"host":
                hosts.append(value)
            elif name in _FORWARDED:
                forwarded += filter(None, (part.strip() for part in value.split(b",")))
        if len(hosts) != 1:
            return Refusal(400, "A request needs exactly one Host header.")
        for value in (*hosts, *forwarded):
            if not self.allows(value):
                return _refusal(value)
        return None


def _refusal(host: bytes) -> Refusal:
    name = name_of(host)
    if name is None:
        shown = host[:_SHOWN_CHARACTERS].decode("latin-1")
        return Refusal(400, f"{shown!r} is not a host name with an optional port.")
    name = name[:_SHOWN_CHARACTERS]
    return Refusal(
        421,
        f"This host does not answer to the name {name}. To let it, add the name to the setting {HOSTS_SETTING}"
        " (local.settings.json or the environment; several with commas), and restart.",
    )


def name_of(host: bytes) -> str | None:
    """The name or address in the value of a `Host` header: lower case, without port, brackets and final dot.

    None for anything else, such as a value with a user (`localhost@evil.example`).
    """
    found = _HOST.fullmatch(host.decode("latin-1"))
    return None if found is None else found["name"].lower().strip("[]").removesuffix(".")


def is_loopback_name(name: str) -> bool:
    """Whether a name or address from `name_of` is this machine's own, whatever any name server says."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
