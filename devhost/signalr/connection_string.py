"""SignalR connection strings: `Endpoint=https://NAME;AccessKey=KEY;Version=1.0;`.

Invariant: a parsed connection string can sign tokens. A string with another kind of authentication
(managed identity) is refused with the setting's name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from devhost.extensions.contract import HostError

DEFAULT_SETTING = "AzureSignalRConnectionString"

_KNOWN_KEYS = {
    "endpoint",
    "accesskey",
    "version",
    "port",
    "authtype",
    "clientendpoint",
    "serverendpoint",
    "clientid",
    "clientsecret",
    "tenantid",
}


@dataclass(frozen=True, slots=True)
class ConnectionString:
    """One SignalR service, by its addresses (origin and optional path, no trailing slash) and its key."""

    endpoint: str
    """The audience of tokens, and the address of REST calls when there is no `server_endpoint`."""
    client_endpoint: str
    """The address that clients connect to; by default the endpoint."""
    server_endpoint: str
    """The address of REST calls; by default the endpoint."""
    access_key: str = field(repr=False)

    def client_url(self, hub: str) -> str:
        """The address for clients of a hub, which is also the audience of their tokens."""
        return f"{self.client_endpoint}/client/?hub={hub}"


def parse_connection_string(text: str, *, setting: str) -> ConnectionString:
    """Read a connection string.

    setting: the name of the app setting, for messages. Its value is never shown, since it contains a key.
    Raises HostError when a part is missing, unknown or not supported here.
    """
    parts: dict[str, str] = {}
    for item in text.strip().split(";"):
        if not item.strip():
            continue
        name, separator, value = item.partition("=")
        key = name.strip().lower()
        if not separator or key not in _KNOWN_KEYS:
            raise HostError(
                f"{setting}: this is no SignalR connection string "
                "(expected Endpoint=https://NAME;AccessKey=KEY;Version=1.0;)"
            )
        parts[key] = value.strip()

    if parts.get("authtype", "").lower().startswith("azure"):
        raise HostError(
            f"{setting}: AuthType={parts['authtype']} (Microsoft Entra identity) is not supported by the dev "
            "host; use a connection string with AccessKey, or remove the setting to use the embedded endpoint"
        )
    version = parts.get("version", "1.0")
    if not version.startswith("1."):
        raise HostError(f"{setting}: Version={version} is not known; 1.0 is")
    for key, name in (("endpoint", "Endpoint"), ("accesskey", "AccessKey")):
        if not parts.get(key):
            raise HostError(f"{setting}: {name} is missing in the connection string")

    endpoint = _address(parts["endpoint"], setting=setting, key="Endpoint", port=parts.get("port"))
    return ConnectionString(
        endpoint=endpoint,
        client_endpoint=_optional_address(parts, "clientendpoint", "ClientEndpoint", setting) or endpoint,
        server_endpoint=_optional_address(parts, "serverendpoint", "ServerEndpoint", setting) or endpoint,
        access_key=parts["accesskey"],
    )


def connection_string_of(settings: Mapping[str, str], setting: str) -> ConnectionString:
    """The service named by an app setting. Raises HostError when it is absent or wrong."""
    text = settings.get(setting, "")
    if text.strip():
        return parse_connection_string(text, setting=setting)
    if any(name.startswith((f"{setting}__", f"{setting}:")) for name in settings):
        raise HostError(
            f"{setting}: identity-based connections ({setting}__serviceUri and its like) are not supported by "
            f"the dev host; set {setting} to a connection string with AccessKey"
        )
    raise HostError(f"app setting {setting} is not set; give it a SignalR connection string")


def same_origin(first: str, second: str) -> bool:
    """Whether two addresses reach the same server: `localhost` and a loopback address count as one."""
    return _origin(first) == _origin(second)


def _optional_address(parts: Mapping[str, str], key: str, name: str, setting: str) -> str | None:
    return _address(parts[key], setting=setting, key=name) if parts.get(key) else None


def _address(text: str, *, setting: str, key: str, port: str | None = None) -> str:
    try:
        url = urlsplit(text)
        own_port = url.port
    except ValueError as exc:
        raise HostError(f"{setting}: {key} is not an address ({exc})") from exc
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
        raise HostError(f"{setting}: {key} must be an http or https address, not {text!r}")
    netloc = url.netloc
    if port is not None:
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise HostError(f"{setting}: Port={port} is no port number")
        if own_port is None:
            netloc = f"{netloc}:{port}"
        elif own_port != int(port):
            raise HostError(f"{setting}: Port={port} contradicts the port in {key}")
    return urlunsplit((url.scheme, netloc, url.path.rstrip("/"), "", ""))


def _origin(address: str) -> tuple[str, str, int]:
    url = urlsplit(address)
    host = (url.hostname or "").lower()
    try:
        if ipaddress.ip_address(host).is_loopback:
            host = "localhost"
    except ValueError:
        pass  # a name, not an address
    return url.scheme, host, url.port or (443 if url.scheme == "https" else 80)
