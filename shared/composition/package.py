"""Where the app lies, and when its package was built."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from shared.errors import ConfigError

APP = Path(__file__).resolve().parents[2]
"""The folder of `function_app.py`: a checkout, or what was deployed."""

MARK = "packaged.json"
"""Written by `./dev package`: `{"packaged_at": "2026-11-30T13:00:00Z"}`."""


def packaged_at(app: Path) -> datetime | None:
    """Aware UTC; None: a checkout. Raises ConfigError."""
    try:
        text = (app / MARK).read_text("utf-8")
    except FileNotFoundError:
        return None
    try:
        return datetime.fromisoformat(json.loads(text)["packaged_at"])
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{MARK} is damaged: deploy what ./dev package builds") from exc
