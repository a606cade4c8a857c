"""Keys: made at the first start, stored in the data folder. The master key opens `/admin`; the others are checked when
auth is on.

Invariant: fail closed. With auth on, a request without the right key never reaches user code. Keys are compared in
constant time, and nobody else on this machine can read their file.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from devhost.settings.datadir import read_json, write_json

KEYS_FILE = "keys.json"


class AuthLevel(StrEnum):
    """Who may call an HTTP function."""

    ANONYMOUS = "ANONYMOUS"  # everyone
    FUNCTION = "FUNCTION"  # its own key, a host key or the master key
    ADMIN = "ADMIN"  # the master key


class Keys:
    """The keys of one app.

    master: the key that Azure calls `_master`. host: the one that it calls `default`, for all functions.
    """

    def __init__(self, data_dir: Path, function_names: Sequence[str]) -> None:
        path = data_dir / KEYS_FILE
        stored: dict[str, Any] = read_json(path)
        before = repr(stored)
        self.master: str = stored.setdefault("master", _new_key())
        self.host: str = stored.setdefault("host", _new_key())
        self.functions: dict[str, str] = stored.setdefault("functions", {})
        for name in function_names:
            self.functions.setdefault(name, _new_key())
        if repr(stored) != before:
            write_json(path, stored, mode=0o600)
        else:
            path.chmod(0o600)  # a copy of the folder may have lost it

    def allows(self, level: AuthLevel, function_name: str, given: str | None) -> bool:
        """Whether `given` (header or `code` query value) may call the function."""
        if level is AuthLevel.ANONYMOUS:
            return True
        accepted = [self.master]
        if level is AuthLevel.FUNCTION:
            accepted += [self.host, self.functions[function_name]]
        return self._matches(given, accepted)

    def is_master(self, given: str | None) -> bool:
        """Whether `given` opens the admin API."""
        return self._matches(given, [self.master])

    @staticmethod
    def _matches(given: str | None, accepted: Sequence[str]) -> bool:
        if not given:
            return False
        # Compare with all keys, so that the time does not reveal which one was close.
        return sum(hmac.compare_digest(given.encode(), key.encode()) for key in accepted) > 0


def master_key(data_dir: Path) -> str:
    """The master key of the host that uses a data folder. KeyError when none has used it."""
    return str(read_json(data_dir / KEYS_FILE)["master"])


def _new_key() -> str:
    return secrets.token_urlsafe(40)
