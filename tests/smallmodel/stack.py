"""What these tests run: the real model as `python -m devtools.small_model` serves it, and the app with it.

Invariant: every process started here is gone when its block ends.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from devtools.small_model import MODEL_NAME
from tests.e2e.support.client import ENDED, Api, Json, eventually
from tests.e2e.support.processes import ROOT, STOP_LIMIT_S, AppHost, free_port, running_host, running_sink, wait_for
from tests.e2e.support.sse import Transcript
from tests.e2e.support.stack import own_environment, own_stores

INSTALL_LIMIT_S = 900.0
"""The first run downloads 130 MB."""
TURN_LIMIT_S = 600.0
"""A full window takes the model half a minute to read, more on a busy machine."""
_REFUSAL = "exceeds the available context size"
"""What llama.cpp writes to its log, and answers, when a request does not fit its window."""


@dataclass(frozen=True, slots=True)
class RunningModel:
    url: str
    """For OPENAI_BASE_URL."""
    log_file: Path

    def count_tokens(self, text: str) -> int:
        """By the model's own vocabulary."""
        answer = httpx.post(f"{self.url.removesuffix('/v1')}/tokenize", json={"content": text}, trust_env=False)
        return len(answer.raise_for_status().json()["tokens"])

    def refusals(self) -> int:
        """How many requests it has refused for their length."""
        return self.log_file.read_text("utf-8", "replace").count(_REFUSAL)


@contextlib.contextmanager
def running_model(folder: Path, *options: str) -> Iterator[RunningModel]:
    """options: more arguments of the command."""
    ready = folder / "ready"
    output = folder / "command.log"
    command = [sys.executable, "-P", "-m", "devtools.small_model", "--port", str(free_port())]
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data", str(folder / "server"), "--ready-file", str(ready), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
        )
    try:
        wait_for(lambda: ready.exists() or process.poll() is not None, "the model to be ready", INSTALL_LIMIT_S)
        assert process.poll() is None, output.read_text()
        yield RunningModel(json.loads(ready.read_text())["url"], folder / "server" / "server.log")
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)


@contextlib.contextmanager
def app_with(folder: Path, model: RunningModel, **settings: str) -> Iterator[AppHost]:
    """The app in a host process on stores of its own. Its window is not among the settings."""
    with own_stores() as stores, running_sink() as sink:
        real = {
            "OPENAI_MODEL": MODEL_NAME,
            # Of silence, which lasts while the model reads.
            "LLM_FIRST_BYTE_SECONDS": "300",
            "LLM_TIMEOUT_SECONDS": "300",
        }
        with running_host(folder, own_environment(stores, model.url, sink) | real | settings) as host:
            yield host


async def ended(api: Api, session_id: str, turn_id: str) -> Json:
    """The turn, once it has ended in whichever way."""

    async def look() -> Json | None:
        turn = await api.turn(session_id, turn_id)
        return turn if turn["status"] in ENDED else None

    return await eventually(look, f"turn {turn_id} to end", TURN_LIMIT_S)


async def answer_of(api: Api, session_id: str, turn_id: str) -> Json:
    """The last assistant message of a completed turn, after a look that its stream said the same."""
    turn = await ended(api, session_id, turn_id)
    assert turn["status"] == "completed", turn
    stored = await api.messages(session_id, turn_id, "assistant")
    transcript = Transcript.of_envelopes(await api.events(session_id), turn_id)
    assert transcript.texts == {message["id"]: message["content"] for message in stored}
    return stored[-1]


def long_message(number: int) -> str:
    """About 900 of the model's tokens, of which no two numbers share a sentence; a question at the end."""
    days = (
        f"On day {day} of journey {number} the travellers walked {number * 31 + day} miles, crossed"
        f" {day + number} rivers and met {day * number + 2} merchants who sold bread, salt and iron."
        for day in range(1, 26)
    )
    return f"This is the diary of journey {number}. {' '.join(days)} What did the merchants sell?"
