"""Which MCP servers agents may name, and which credentials each host may be given: the setting MCP_ALLOW.

Agents are written by admins, settings by the operator. Without the operator's word an admin could have a token of the
app's identity, or any secret, sent to a host of theirs.

Invariant: a credential goes only to a host that the operator named together with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from yarl import URL

from shared.adapters.http.guard import AllowList
from shared.errors import ConfigError, ToolRefused
from shared.sessions.mcp.servers import Credentials, HeaderCredential

SETTING = "MCP_ALLOW"
_SECRET, _SCOPE = "secret:", "scope:"


class AllowedServers:
    """The parsed setting."""

    def __init__(self, entries: Iterable[str]) -> None:
        """entries: `host[:port]`, and behind it, separated by spaces, `secret:NAME` and `scope:SCOPE`.

        Raises ConfigError.
        """
        told = [entry.split() for entry in entries]
        self.addresses = AllowList([parts[0] for parts in told], setting=SETTING)
        self._credentials: list[tuple[AllowList, frozenset[str]]] = []
        for host, *credentials in told:
            for credential in credentials:
                if not credential.startswith((_SECRET, _SCOPE)) or credential in {_SECRET, _SCOPE}:
                    raise ConfigError(f"{SETTING}: {credential!r} behind {host} is neither secret:NAME nor scope:SCOPE")
            self._credentials.append((AllowList([host], setting=SETTING), frozenset(credentials)))

    def check(self, url: URL, credentials: Credentials | None) -> None:
        """Raises ToolRefused."""
        self.addresses.check_url(url)
        if credentials is None:
            return
        wanted = (
            f"{_SECRET}{credentials.secret}"
            if isinstance(credentials, HeaderCredential)
            else f"{_SCOPE}{credentials.scope}"
        )
        if not any(wanted in given and _is_of(host, url) for host, given in self._credentials):
            raise ToolRefused(
                f"{SETTING} of this deployment does not give {wanted} to {url.host}:{url.port}.",
            )


def _is_of(host: AllowList, url: URL) -> bool:
    try:
        host.check_url(url)
    except ToolRefused:
        return False
    return True
