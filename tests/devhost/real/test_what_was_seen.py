"""Every row of WHAT_WAS_SEEN.md has a source and a test that exists."""

from __future__ import annotations

from pathlib import Path

from devhost.testing import PROJECT_DIR

TABLE = Path(__file__).parent / "WHAT_WAS_SEEN.md"


def test_every_row_names_its_source_and_a_test_that_exists() -> None:
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in TABLE.read_text().splitlines()
        if line.startswith("| ") and not line.startswith(("| what ", "| ---"))
    ]
    assert rows
    for what, source, here, test in rows:
        assert source, what
        assert here, what
        path, _, name = test.strip("`").partition("::")
        text = (PROJECT_DIR / path).read_text()
        assert not name or f"def {name}(" in text, f"{what}: there is no test {name} in {path}"
