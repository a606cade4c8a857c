"""Workers: the messages between them and the host, and several of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devhost.app.workers import process_count
from devhost.extensions.contract import HostError
from devhost.runner import HostOptions, run_host
from devhost.worker.frames import Decoder, encode, plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)

APP = """
import asyncio, os
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("pid")
async def pid(req: func.HttpRequest) -> str:
    await asyncio.sleep(0.05)
    return str(os.getpid())
"""


@given(st.lists(st.tuples(PLAIN, PLAIN), max_size=5), st.data())
def test_messages_arrive_however_their_bytes_are_cut(frames: list[tuple[object, object]], data: st.DataObject) -> None:
    wire = b"".join(encode(frame) for frame in frames)
    decoder, found, begin = Decoder(), [], 0
    while begin < len(wire):
        end = begin + data.draw(st.integers(1, len(wire) - begin))
        found += decoder.feed(wire[begin:end])
        begin = end
    assert found == frames


def test_values_of_user_code_become_plain() -> None:
    class Colour(StrEnum):
        RED = "red"

    value = plain(Colour.RED)
    assert (value, type(value)) == ("red", str)
    assert plain(bytearray(b"x")) == b"x"
    assert plain({"a": (1, Colour.RED)}) == {"a": [1, "red"]}


@pytest.mark.parametrize("text", ["0", "11", "two", "-1"])
def test_a_number_of_workers_that_azure_does_not_take_is_refused(text: str) -> None:
    with pytest.raises(HostError, match="FUNCTIONS_WORKER_PROCESS_COUNT must be a number from 1 to 10"):
        process_count({"FUNCTIONS_WORKER_PROCESS_COUNT": text})
    assert process_count({}) == process_count({"FUNCTIONS_WORKER_PROCESS_COUNT": ""}) == 1


async def test_workers_share_the_invocations_and_the_others_go_on_when_one_dies(
    make_app: Callable[..., Path], tmp_path: Path
) -> None:
    options = HostOptions(
        make_app(function_app__py=APP),
        port=0,
        data_dir=tmp_path / "data",
        settings={"FUNCTIONS_WORKER_PROCESS_COUNT": "2"},
    )
    async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:

        async def pids() -> set[int]:
            answers = await asyncio.gather(*(client.get("/api/pid") for _ in range(10)))
            return {int(answer.text) for answer in answers}

        async with asyncio.timeout(30):
            while len(both := await pids()) < 2:
                pass  # the second one is not ready yet
        lost = both.pop()
        os.kill(lost, signal.SIGKILL)
        async with asyncio.timeout(30):
            while (await client.get("/api/pid")).text == str(lost):
                pass
            while len(after := await pids()) < 2:
                pass
        assert lost not in after
        assert both < after
