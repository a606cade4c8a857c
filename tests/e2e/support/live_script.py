"""The live client that `docs/live.md` prints."""

from __future__ import annotations

import re

from tests.e2e.support.processes import ROOT


def printed() -> str:
    """A module of JavaScript, as it stands there."""
    [code] = re.findall(r"^```js\n(.*?)^```$", (ROOT / "docs" / "live.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(code)
