"""The secrets of tools, read from settings by name, and their values kept out of everything that is written down.

Invariant: no output, error, progress or log line of this process contains the value of a tool's secret.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.errors import ToolFailed
from shared.sessions.tools.running.masking import Mask

log = logging.getLogger(__name__)

SETTING_PREFIX = "TOOL_SECRET_"
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
MIN_CHARS = 8
"""A shorter value cannot be told from other text, so it could not be masked."""
_REFERENCE = "@Microsoft.KeyVault("


@dataclass(frozen=True, slots=True)
class SettingSecrets:
    """`Secrets` over settings. values: by setting, `TOOL_SECRET_...`."""

    values: Mapping[str, str]

    def __repr__(self) -> str:
        return f"SettingSecrets({', '.join(sorted(self.values))})"

    def read(self, name: str) -> str:
        """Raises ToolFailed, which names the setting."""
        setting = SETTING_PREFIX + name
        value = self.values.get(setting, "")
        reason = _unusable(value)
        if reason is not None:
            raise ToolFailed(f"The setting {setting} {reason}.")
        return value

    def mask(self) -> Mask:
        """Of all values that can be read."""
        usable = {name: value for name, value in self.values.items() if _unusable(value) is None}
        return Mask({name.removeprefix(SETTING_PREFIX): value for name, value in usable.items()})

    def tell_missing(self, declared: Mapping[str, Iterable[str]]) -> None:
        """Log one line that names the settings that tools need and cannot read. declared: secrets by tool."""
        wanted: dict[str, list[str]] = {}
        for tool, names in declared.items():
            for name in names:
                wanted.setdefault(SETTING_PREFIX + name, []).append(tool)
        missing = [
            f"{setting} {reason} (for {', '.join(sorted(tools))})"
            for setting, tools in sorted(wanted.items())
            if (reason := _unusable(self.values.get(setting, ""))) is not None
        ]
        if missing:
            log.warning("secrets of tools: %s", "; ".join(missing))


def checked_names(secrets: Iterable[str], owner: str) -> tuple[str, ...]:
    """The names as declared. Raises TypeError for one that is no name of a secret."""
    names = (secrets,) if isinstance(secrets, str) else tuple(secrets)
    for each in names:
        if _NAME.fullmatch(each) is None:
            raise TypeError(f"{owner!r} names the secret {each!r}: use capitals, digits and underscores")
    return names


def _unusable(value: str) -> str | None:
    if not value:
        return "is not set"
    if value.startswith(_REFERENCE):
        return "is a Key Vault reference that was not resolved"
    if len(value) < MIN_CHARS:
        return f"has fewer than {MIN_CHARS} characters"
    return None
