"""A peer's program answers the load generator as Parley does; here the one that needs no packages of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import aiohttp
import pytest

from devtools.bench.load.bare import bare_text
from devtools.bench.load.client import Client, Watch
from devtools.bench.load.workloads import plain
from devtools.bench.peers.command import ENGINES, main
from devtools.bench.peers.contender import REQUIREMENTS, Peer
from devtools.bench.readme import _PEERS
from tests.e2e.support.stack import model_url

__all__ = ["model_url"]

pytestmark = pytest.mark.integration


async def test_a_turn_of_a_peer_streams_what_the_model_says(
    empty_postgres_url: str, model_url: str, tmp_path: Path
) -> None:
    what = plain()
    settings = {"POSTGRES_URL": empty_postgres_url, "OPENAI_BASE_URL": model_url}
    peer = Peer("none", Path(sys.executable)).contender("none", tmp_path, settings=settings, report=lambda *_: None)
    async with peer, aiohttp.ClientSession(auto_decompress=False) as http:
        expected = await bare_text(http, model_url, what.bare_requests([])[0])
        async with Client(http, peer.url, what.message, Watch.SSE) as client:
            for _ in range(2):
                timing = await client.turn(expected_text=expected)
                assert 0 < timing.first_s <= timing.total_s
        peer.check_alive()
        assert await peer.tools() == []


def test_every_peer_has_its_words_in_the_table_and_exact_packages() -> None:
    assert set(_PEERS) == {"parley", *ENGINES}
    packages = [line for line in REQUIREMENTS.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert packages
    assert all("==" in line for line in packages)


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "dbos,temporal"])
    assert "'temporal' is none of none, langgraph, dbos, dbos-tokens" in capsys.readouterr().err


@pytest.mark.parametrize("given", [("--rounds", "0"), ("--seconds", "0"), ("--sessions", "1,x")])
def test_a_number_that_measures_nothing_is_refused(given: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(given)
    assert "is not a" in capsys.readouterr().err
