"""Python imports this when it starts with this folder in PYTHONPATH: a hook's lines that ran are added to $TRACED."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

HOOKS = Path(__file__).parents[4] / "infra" / "hooks"
_seen: set[str] = set()


def _write_down(frame: FrameType, event: str, _: Any) -> Any:
    path = Path(frame.f_code.co_filename)
    if path.absolute().parent != HOOKS:
        return None
    line = f"{path.name}:{frame.f_lineno}\n"
    if line not in _seen:
        _seen.add(line)
        # At once: a hook may end by becoming another program.
        with Path(os.environ["TRACED"]).open("a") as file:
            file.write(line)
    return _write_down


if Path(*sys.orig_argv[1:2]).absolute().parent == HOOKS:
    sys.settrace(_write_down)
