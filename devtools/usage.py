"""Writes the pages of `./dev COMMAND --help` from the commands' own parsers: `python -m devtools.usage`.

They are kept as text, since a parser needs the packages of `.venv`, and somebody who asks for help may have none yet.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from pathlib import Path
from unittest import mock

from devtools.__main__ import MODULES as _MODULES
from devtools.setup.bootstrap import COMMANDS
from devtools.setup.places import USAGE

_HEAD = "Made by `python -m devtools.usage` from the commands' parsers; do not edit.\n"
_PARSED_BY = {**_MODULES, "chaos": "devtools.chaos.command"}
_WITHOUT_PARSER = {
    "test": """usage: ./dev test [agents] [pytest arguments]

Run the test suite, on real PostgreSQL, Valkey and Azurite, three files at a time. `./dev test tests/unit` runs a
folder, `./dev test agents` your own tests; all options of pytest are taken, such as -k WORD, -x, -n 2.""",
    "check": """usage: ./dev check

Lint, format and types of everything, and whether the app would take every file of agents/. As CI does.""",
    "infra": """usage: ./dev infra [--update]

Compile, lint and evaluate the deployment where a Bicep is found, and scan it with checkov.

options:
  --update    write infra/snapshots, which the tests and CI compare with""",
    "migrate": """usage: POSTGRES_URL=... ./dev migrate

Apply the SQL migrations that the database does not have yet. `./dev up` does so by itself for its own database.""",
    "hubs": """usage: POSTGRES_URL=... ./dev hubs [adopt HUB [BY]]

Without arguments: the task hubs that work on the database, and what each holds. `adopt` gives the open turns of one
that nobody serves any more to another one (BY: the only one that is served). docs/operations.md says when.""",
}


def pages() -> str:
    """All pages, as the file has them."""
    found = {name: _WITHOUT_PARSER.get(name) or _told_by(_PARSED_BY[name]) for name in COMMANDS}
    return _HEAD + "".join(f"\n===== {name}\n{text}\n" for name, text in found.items())


def _told_by(module: str) -> str:
    told = io.StringIO()
    # Wide and without colours, wherever it runs.
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "110", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(told),
        contextlib.suppress(SystemExit),
    ):
        importlib.import_module(module).main(["--help"])
    return told.getvalue().strip()


if __name__ == "__main__":
    Path(USAGE).write_text(pages(), encoding="utf-8")
