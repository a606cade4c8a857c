"""The README's tour, run as it stands: the commands a newcomer copies, against a real `./dev up`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devtools.running_up import Up
from tests.e2e.support.tour import blocks_of, environment_of_a_reader, prints_what_is_shown

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(ROOT, data=tmp_path_factory.mktemp("tour") / "data", env={})
    try:
        running.wait_for("ready (")
        yield running
    finally:
        running.close()


def test_the_tour_prints_what_the_readme_shows(up: Up, tmp_path: Path) -> None:
    blocks = blocks_of("README.md", "A five-minute tour")
    assert [language for language, _ in blocks].count("sh") >= 4, "the tour lost its commands"

    prints_what_is_shown(up, blocks, environment_of_a_reader(tmp_path), cwd=tmp_path)
