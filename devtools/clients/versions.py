"""The version of everything that is published: the app's own.

Both packages carry it, since both are of the wire contract that this version of the app speaks.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from devtools.setup.places import ROOT as _ROOT

ROOT = Path(_ROOT)
CLIENTS = ROOT / "clients"
PACKAGES = ROOT / ".data" / "packages"
"""Where packages are built."""


class NotPublishable(Exception):
    """Nothing was built or published; the message is one line."""


def version() -> str:
    """The version that all places name. Raises NotPublishable when they do not agree."""
    named = {
        "pyproject.toml": _toml_version(ROOT / "pyproject.toml"),
        "clients/python/pyproject.toml": _toml_version(CLIENTS / "python" / "pyproject.toml"),
        "clients/python/src/parley_client/_version.py": _python_version(),
        "clients/javascript/package.json": str(manifest()["version"]),
    }
    if len(set(named.values())) != 1:
        raise NotPublishable("versions differ: " + ", ".join(f"{place} {found}" for place, found in named.items()))
    return named["pyproject.toml"]


def manifest() -> dict[str, object]:
    """The package.json of the JavaScript client."""
    found = json.loads((CLIENTS / "javascript" / "package.json").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def _toml_version(path: Path) -> str:
    return str(tomllib.loads(path.read_text("utf-8"))["project"]["version"])


def _python_version() -> str:
    text = (CLIENTS / "python" / "src" / "parley_client" / "_version.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return "none" if found is None else found[1]
