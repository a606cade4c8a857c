"""`_sync.py` of the Python client, made from `_async.py`: the same text, without what waits.

Both are only shells around `_core/`, so that a change of words is all that tells them apart.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from devtools.setup.places import ROOT

PACKAGE = Path(ROOT, "clients", "python", "src", "parley_client")
SOURCE, TARGET = PACKAGE / "_async.py", PACKAGE / "_sync.py"

_DOCSTRING = '"""The blocking client. Made from `_async.py` by `devtools.clients.blocking`: change that one."""'
_WORDS = (
    (r'\A"""[^"]*"""', _DOCSTRING),
    (r"^import asyncio\n", ""),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bAwaitable, ", ""),
    (r"\bAwaitable\[(.+?\])\]", r"\1"),
    (r"\bAsyncGenerator\[(\w+), None\]", r"Generator[\1, None, None]"),
    (r"\bAsync(Client|Stream|Generator|Iterator)\b", r"\1"),
    (r"\b__a(iter|next|enter|exit)__\b", r"__\1__"),
    (r"\ba(close|read|iter_bytes)\b", r"\1"),
)


def blocking(source: str) -> str:
    """The blocking client from the text of the other."""
    for pattern, replacement in _WORDS:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    # Imports and lines that became shorter.
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format"]):
        name = ["--stdin-filename", str(TARGET)]
        ruff = [sys.executable, "-m", "ruff", *command, *name, "-"]
        source = subprocess.run(ruff, input=source, capture_output=True, text=True, check=True).stdout
    return source


def write() -> None:
    TARGET.write_text(blocking(SOURCE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    write()
