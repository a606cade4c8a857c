"""The app as one that pages of another origin may call."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.support.processes import ROOT


def app_that_allows(origin: str, folder: Path) -> Path:
    """This checkout, with the setting that a developer would make in local.settings.json."""
    folder.mkdir()
    for name in ("function_app.py", "host.json", "activities", "orchestrators", "shared", "triggers", "web"):
        (folder / name).symlink_to(ROOT / name)
    settings = {"IsEncrypted": False, "Values": {}, "Host": {"CORS": origin}}
    (folder / "local.settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
