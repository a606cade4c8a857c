"""The vault's secrets, by its REST API: https://learn.microsoft.com/rest/api/keyvault/secrets

REST instead of `az keyvault secret`, since its errors are codes and not sentences, and since a value is then never a
command's argument. The token comes from `az`.

Invariant: what passes by itself is waited for (a role that was given a moment ago, a name that no DNS server knows
yet, a busy vault), and what does not is refused at once.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

VERSION = "7.4"
TRIES = 20
WAIT_S = float(os.environ.get("HOOK_WAIT_SECONDS") or 15)
"""Five minutes in all: as long as a role may take to arrive. Tests do not wait."""
_TIMEOUT_S = 30
_NOT_YET = ("ForbiddenByRbac", "ObjectIsBeingDeleted", "ObjectIsBeingRecovered")


class VaultError(Exception):
    """The vault refused, or did not answer in time; the message is one line."""


class Vault:
    def __init__(self, endpoint: str, token: str) -> None:
        """endpoint: the vault's https address. token: for https://vault.azure.net. Raises VaultError."""
        if not endpoint.startswith("https://"):
            raise VaultError(f"{endpoint} is no address of a vault: it must begin with https://")
        self._endpoint, self._token = endpoint.rstrip("/"), token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def read(self, name: str) -> str | None:
        """The newest value; None when there is no such secret, or a deleted one. Raises VaultError."""
        answer = self._ask("GET", f"secrets/{name}", accepted="SecretNotFound")
        return None if answer is None else str(answer["value"])

    def write(self, name: str, value: str) -> None:
        """Store a new version. Raises VaultError."""
        self._ask("PUT", f"secrets/{name}", {"value": value})

    def create(self, name: str, value: str) -> bool:
        """The same; False when a deleted secret still holds the name. Raises VaultError."""
        held = "ObjectIsDeletedButRecoverable"
        return self._ask("PUT", f"secrets/{name}", {"value": value}, accepted=held) is not None

    def recover(self, name: str) -> None:
        """Take back a deleted secret, all its versions, and wait until it is there. Raises VaultError."""
        self._ask("POST", f"deletedsecrets/{name}/recover")
        for _ in range(TRIES):
            if self.read(name) is not None:
                return
            time.sleep(WAIT_S)
        raise VaultError(f"{name} was recovered and is not there yet: run this again in a minute")

    def _ask(self, method: str, path: str, body: object = None, *, accepted: str = "") -> dict[str, Any] | None:
        """The answer, None when the vault refuses with the code `accepted`."""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(WAIT_S)
            request = urllib.request.Request(
                f"{self._endpoint}/{path}?api-version={VERSION}",
                data=None if body is None and method == "GET" else json.dumps(body or {}).encode(),
                headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
                method=method,
            )
            try:
                with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                    found: dict[str, Any] = json.load(answer)
                    return found
            except urllib.error.HTTPError as error:
                code, reason = _error(error)
                if accepted and code == accepted:
                    return None
                if code not in _NOT_YET and error.code != 429 and error.code < 500:
                    raise VaultError(f"the vault refused: {reason}") from error
            except OSError as error:
                reason = f"the vault cannot be reached: {error}"
        raise VaultError(reason)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes to the vault and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _error(error: urllib.error.HTTPError) -> tuple[str, str]:
    """The narrowest code of an error, and one line about it."""
    try:
        told = json.load(error)["error"]
        code = str((told.get("innererror") or told)["code"])
        return code, f"{code}: {' '.join(str(told.get('message', '')).split())}"
    except (ValueError, KeyError, TypeError):
        return "", f"{error.code} {error.reason}"
