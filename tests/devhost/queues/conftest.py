"""An app with queue functions, and the queues of the tests' Azurite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devhost.queues.account import parse_connection_string
from devhost.queues.service import Message, Queue, QueueService
from devhost.runner import HostOptions, RunningHost, run_host

PATIENCE_S = 30
APP = """
import asyncio, json, os, pathlib
import azure.functions as func

app = func.FunctionApp()
LOG = pathlib.Path(os.environ["QUEUE_LOG"])

def write(what):
    with LOG.open("a") as log:
        log.write(json.dumps(what) + "\\n")

@app.queue_trigger(arg_name="message", queue_name="%ORDERS%", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="after", queue_name="%ORDERS%-after", connection="AzureWebJobsStorage")
async def takes(message: func.QueueMessage, after: func.Out[str]) -> None:
    body = message.get_body().decode()
    write({
        "body": body, "id": message.id, "dequeue_count": message.dequeue_count, "pop_receipt": message.pop_receipt,
        "inserted": message.insertion_time.isoformat(), "expires": message.expiration_time.isoformat(),
        "visible": message.time_next_visible.isoformat(),
    })
    if body == "fails":
        raise ValueError("as it was told")
    if body == "dies" and message.dequeue_count == 1:
        os._exit(3)
    if body.startswith("waits"):
        while not (LOG.parent / "go").exists():
            await asyncio.sleep(0.01)
    if body.startswith("tells "):
        after.set(body.removeprefix("tells "))
"""


@dataclass(frozen=True, slots=True)
class QueueApp:
    """An app that runs, its queue, and what it was called with."""

    host: RunningHost
    orders: Queue
    poison: Queue
    after: Queue
    log: Path

    def go(self) -> None:
        """Let functions that wait go on."""
        (self.log.parent / "go").touch()

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    async def called(self, count: int) -> list[dict[str, Any]]:
        """The calls, when there are that many."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.calls()) < count:  # noqa: ASYNC110 - another process writes them
                await asyncio.sleep(0.01)
        return self.calls()


async def taken(queue: Queue) -> Message:
    """The next message of a queue, when there is one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await queue.exists() and (messages := await queue.receive(1, invisible_s=PATIENCE_S)):
                return messages[0]
            await asyncio.sleep(0.02)


async def emptied(service: QueueService, url: str, name: str) -> None:
    """Wait until a queue holds nothing, neither visible nor in hand."""
    account = parse_connection_string(url, setting="storage")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            headers, _ = await service.call(account, "GET", f"/{name}", {"comp": "metadata"})
            if headers["x-ms-approximate-messages-count"] == "0":
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def service() -> AsyncIterator[QueueService]:
    one = QueueService()
    yield one
    await one.close()


type Start = Callable[..., AbstractAsyncContextManager[QueueApp]]


@pytest.fixture
def queue_app(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage_url: str,
    unique_name: str,
    service: QueueService,
    forked_workers: None,
) -> Start:
    """Starts the app: `async with queue_app(**extensions_queues_of_host_json) as app`."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "function_app.py").write_text(APP)
    log = tmp_path / "calls.jsonl"
    for name, value in {"QUEUE_LOG": str(log), "ORDERS": unique_name, "AzureWebJobsStorage": storage_url}.items():
        monkeypatch.setenv(name, value)
    account = parse_connection_string(storage_url, setting="storage")
    orders, poison, after = (Queue(service, account, unique_name + end) for end in ("", "-poison", "-after"))

    @asynccontextmanager
    async def start(**queues: object) -> AsyncIterator[QueueApp]:
        await orders.create()
        options = {"messageEncoding": "none", "maxPollingInterval": "00:00:00.1"} | queues
        (folder / "host.json").write_text(json.dumps({"version": "2.0", "extensions": {"queues": options}}))
        async with run_host(HostOptions(folder, port=0, data_dir=tmp_path / "data")) as host:
            yield QueueApp(host, orders, poison, after, log)

    return start
