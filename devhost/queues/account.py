"""Where a queue service is and how to sign requests to it, from the connection string of an app setting.

Invariant: a string with another kind of authentication (managed identity, a shared access signature) is refused with
the setting's name; its value is never shown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from devhost.extensions.contract import HostError

DEFAULT_CONNECTION = "AzureWebJobsStorage"
_EMULATOR = {
    # The well-known account of every storage emulator.
    "accountname": "devstoreaccount1",
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "queueendpoint": "http://127.0.0.1:10001/devstoreaccount1",
}


@dataclass(frozen=True, slots=True)
class QueueAccount:
    """One queue service. url: without a slash at its end."""

    url: str
    name: str
    key: bytes = field(repr=False)

    def signed(self, method: str, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
        """The `Authorization` of a request (Shared Key). headers: its `x-ms-...`, `content-type` and `content-length`.

        Source: Microsoft Learn, "Authorize with Shared Key".
        """
        lines = [method, "", "", headers.get("content-length", ""), "", headers.get("content-type", "")]
        lines += [""] * 6
        lines += [f"{name}:{value}" for name, value in sorted(headers.items()) if name.startswith("x-ms-")]
        resource = f"/{self.name}{unquote(urlsplit(url).path)}"
        lines += [resource, *(f"{name}:{value}" for name, value in sorted(query.items()))]
        digest = hmac.digest(self.key, "\n".join(lines).encode(), hashlib.sha256)
        return f"SharedKey {self.name}:{base64.b64encode(digest).decode()}"


def account_of(settings: Mapping[str, str], connection: str, where: str) -> QueueAccount:
    """The account of a binding's `connection`. where: the binding, for messages. Raises HostError."""
    name = connection or DEFAULT_CONNECTION
    # As in Azure: `Orders` is looked for as `AzureWebJobsOrders` first.
    for setting in (f"AzureWebJobs{name}", name, f"ConnectionStrings:{name}"):
        if settings.get(setting, "").strip():
            return parse_connection_string(settings[setting], setting=setting)
        if any(key.startswith(f"{setting}__") for key in settings):
            raise HostError(
                f"{where}: {setting}__... names an identity, which devhost does not have; set {setting} to a "
                "connection string"
            )
    raise HostError(f"{where}: app setting {name} is empty; set it to the connection string of a storage account")


def parse_connection_string(text: str, *, setting: str) -> QueueAccount:
    """Raises HostError when a part is missing or not supported here."""
    parts: dict[str, str] = {}
    for item in text.strip().split(";"):
        name, _, value = item.partition("=")
        parts[name.strip().lower()] = value.strip()
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        parts = _EMULATOR
    if "sharedaccesssignature" in parts:
        raise HostError(f"{setting}: a shared access signature is not supported by devhost; use an account key")
    account, protocol = parts.get("accountname", ""), parts.get("defaultendpointsprotocol", "https")
    url = (
        parts.get("queueendpoint") or f"{protocol}://{account}.queue.{parts.get('endpointsuffix', 'core.windows.net')}"
    )
    try:
        key = base64.b64decode(parts.get("accountkey", ""), validate=True)
    except binascii.Error:
        key = b""
    if not account or not key:
        raise HostError(
            f"{setting}: this is no connection string of a storage account (AccountName=...;AccountKey=...)"
        )
    return QueueAccount(url.rstrip("/"), account, key)
