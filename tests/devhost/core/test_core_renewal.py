"""The app is loaded anew while it serves: `POST /admin/host/restart`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import psutil
import pytest

from devhost.runner import HostOptions, RunningHost, run_host

APP = """
import asyncio, os
import azure.functions as func
from words import WORD
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("word")
async def word(req: func.HttpRequest) -> str:
    return f"{WORD} {os.getpid()}"

@app.route("slow")
async def slow(req: func.HttpRequest) -> str:
    open(req.params["begun"], "w").close()
    while not os.path.exists(req.params["go"]):
        await asyncio.sleep(0.01)
    return f"{WORD} {os.getpid()}"
"""


class Running:
    def __init__(self, folder: Path, host: RunningHost, client: httpx.AsyncClient) -> None:
        self.folder, self.host, self.client = folder, host, client

    def write(self, text: str) -> None:
        (self.folder / "words.py").write_text(text)

    async def restart(self, key: str | None = None) -> httpx.Response:
        headers = {"x-functions-key": self.host.keys.master if key is None else key}
        return await self.client.post("/admin/host/restart", headers=headers)

    async def word(self) -> tuple[str, int]:
        word, pid = (await self.client.get("/api/word")).text.split()
        return word, int(pid)

    async def begin_slow(self, number: int) -> tuple[asyncio.Task[httpx.Response], Path]:
        """A call that has begun, and the file that ends it."""
        begun, go = self.folder / f"begun-{number}", self.folder / f"go-{number}"
        call = asyncio.create_task(self.client.get("/api/slow", params={"begun": str(begun), "go": str(go)}))
        await until(begun.exists)
        return call, go


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  # files and processes, which set no event
            await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


@pytest.fixture
async def running(make_app: Callable[..., Path], tmp_path: Path) -> AsyncIterator[Running]:
    folder = make_app(function_app__py=APP, words__py="WORD = 'old'\n")
    options = HostOptions(folder, port=0, data_dir=tmp_path / "data")
    async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
        yield Running(folder, host, client)


async def test_new_calls_go_to_the_new_code_and_what_runs_ends_with_the_old(running: Running) -> None:
    _, old = await running.word()
    call, go = await running.begin_slow(1)
    running.write("WORD = 'new, at last'.split(',')[0]\n")

    assert (await running.restart()).status_code == 202

    word, pid = await running.word()
    assert word == "new"
    assert pid != old
    assert not is_gone(old)
    go.touch()
    assert (await call).text == f"old {old}"
    await until(lambda: is_gone(old))
    assert await running.word() == ("new", pid)


async def test_an_app_that_cannot_be_loaded_changes_nothing(running: Running) -> None:
    before = await running.word()
    running.write("WORD = \n")

    refused = await running.restart()

    assert refused.status_code == 409
    assert "words.py:1" in refused.json()["error"]
    assert await running.word() == before
    running.write("WORD = 'mended'\n")
    assert (await running.restart()).status_code == 202
    assert (await running.word())[0] == "mended"


async def test_a_second_renewal_leaves_no_more_time_to_those_of_the_first(running: Running) -> None:
    """Whoever saves often would otherwise have a process for each time."""
    _, old = await running.word()
    call, _ = await running.begin_slow(1)
    await running.restart()
    assert not call.done()

    await running.restart()

    assert (await call).status_code == 500
    await until(lambda: is_gone(old))
    assert (await running.word())[0] == "old"


async def test_a_worker_that_dies_while_it_finishes_fails_its_calls_and_no_others(running: Running) -> None:
    _, old = await running.word()
    call, _ = await running.begin_slow(1)
    await running.restart()

    os.kill(old, signal.SIGKILL)

    assert (await call).status_code == 500
    _, pid = await running.word()
    os.kill(pid, signal.SIGKILL)  # and its successor is looked after as any worker is
    await until(lambda: is_gone(pid))
    while (answer := await running.client.get("/api/word")).status_code == 500:
        assert "python exited" in answer.text or not answer.text  # the host has not noticed yet
    assert int(answer.text.split()[1]) not in {old, pid}


async def test_it_takes_the_master_key(running: Running) -> None:
    before = await running.word()

    assert (await running.restart("")).status_code == 401
    assert (await running.client.get("/admin/host/restart")).status_code == 401
    assert await running.word() == before


async def test_a_host_stops_while_a_worker_finishes(make_app: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_app(function_app__py=APP, words__py="WORD = 'old'\n")
    async with (
        run_host(HostOptions(folder, port=0, data_dir=tmp_path / "data")) as host,
        httpx.AsyncClient(base_url=host.base_url, timeout=30) as client,
    ):
        running = Running(folder, host, client)
        _, old = await running.word()
        call, _ = await running.begin_slow(1)
        await running.restart()
        _, new = await running.word()
        call.cancel()
    assert is_gone(old)
    assert is_gone(new)
