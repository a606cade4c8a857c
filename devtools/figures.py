"""`python -m devtools.figures`: writes the computed tables into the pages of `docs/` and `infra/README.md`.

A table is between `<!-- figures: NAME -->` and `<!-- end -->`. A test compares the pages with the computed tables.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from devtools.chaos.report import recoveries_table, runs_table
from devtools.sizing.costs import costs_table, polling_table, prices_table
from devtools.sizing.memory import memory_table
from devtools.sizing.million import million_table
from devtools.sizing.scale import ROOT, limits_table, measured_table, scale_table, waits_table

PAGES = (ROOT / "docs" / "operations.md", ROOT / "docs" / "reliability.md", ROOT / "infra" / "README.md")
BLOCK = re.compile(r"(?<=<!-- figures: )(\w+)( -->\n)(?:(?!<).*\n)*(<!-- end -->)")

TABLES: dict[str, Callable[[], str]] = {
    "measured": measured_table,
    "waits": waits_table,
    "scale": scale_table,
    "limits": limits_table,
    "memory": memory_table,
    "costs": costs_table,
    "million": million_table,
    "polling": polling_table,
    "prices": prices_table,
    "chaos_runs": runs_table,
    "chaos_recoveries": recoveries_table,
}


def filled(page: str) -> str:
    """The page with every block recomputed."""
    return BLOCK.sub(lambda block: f"{block[1]}{block[2]}{TABLES[block[1]]()}\n{block[3]}", page)


def main() -> int:
    for path in PAGES:
        path.write_text(filled(path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
