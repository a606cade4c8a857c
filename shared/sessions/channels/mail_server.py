"""The mail server of a deployment, as its setting says. A value."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_PORTS = {"smtp": 587, "smtps": 465}
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class MailServer:
    """implicit: TLS from the first byte, else STARTTLS, without which nothing is sent."""

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    implicit: bool

    @property
    def in_clear(self) -> bool:
        """Only to this machine, where nobody listens in between, and without a password."""
        return self.host in _LOCAL and not self.implicit and self.password is None

    @classmethod
    def parse(cls, url: str) -> MailServer:
        """`smtps://user:password@host[:465]`, or `smtp://...[:587]` for STARTTLS; percent-encoded where needed.

        Raises ValueError, whose text contains no secret.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("is not a URL") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("must be smtps://user:password@host[:port], or smtp://... for STARTTLS")
        if (parts.username is None) != (parts.password is None):
            raise ValueError("needs a user and a password, or neither")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("must end with the host or the port; write special characters percent-encoded")
        return cls(
            parts.hostname,
            port or _PORTS[parts.scheme],
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
            parts.scheme == "smtps",
        )
