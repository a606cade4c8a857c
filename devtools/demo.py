"""`./dev demo subagents`: a turn with two subagents, of which one waits for a person, survives `kill -9` of the host.

Everything runs on this machine in a folder of its own, which is gone afterwards. Each line says what is seen through
the API; the last one says whether the end result is right, and so does the exit status.

Not here: what is shown (`docs/subagents.md`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from devtools.setup.places import ROOT

type Json = dict[str, Any]

DEMOS = ("subagents",)
_PATIENCE_S = 180.0
"""For each step: the first start builds the console."""
_LOOK_S = 0.1
_HOST = "host"
_NOTE = "hello from a subagent"
_SUM = "391"
_OFF = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT")
"""So that the offline model answers, whose answers are known."""


class Wrong(Exception):
    """What is seen is not what should be; the message says it."""


class Away(Wrong):
    """The host, or what it needs, cannot serve just now."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev demo", description="Show something that is hard to believe.")
    parser.add_argument("name", choices=DEMOS, help="a parent with two subagents, and a host that is killed")
    parser.parse_args(arguments)
    try:
        with _running() as stack:
            _subagents(stack)
    except Wrong as wrong:
        print(f"demo: {wrong}", file=sys.stderr)
        return 1
    return 0


@dataclass
class _Stack:
    """A `./dev up` of its own."""

    folder: Path
    process: subprocess.Popen[bytes]
    log: Path
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))
    base: str = ""
    notes: str = ""

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = self.http.request(method, f"{self.base}/api/v1{path}", json=body)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise Away(f"{method} {path} was answered with 503: {answer.text[:300]}")
        if answer.is_error:
            raise Wrong(f"{method} {path} was answered with {answer.status_code}: {answer.text[:300]}")
        found: Json = answer.json()
        return found

    def host_pid(self) -> int:
        return int(json.loads((self.folder / _HOST / "server.pid").read_text())["pid"])

    def until(self, look: Callable[[], Any], what: str) -> Any:
        """What `look` finds, once it finds something. While the host is away it finds nothing."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise Wrong(f"./dev up has ended:\n{self.log.read_text()[-2000:]}")
            with contextlib.suppress(Away, httpx.TransportError, FileNotFoundError, ValueError):
                if found := look():
                    return found
            time.sleep(_LOOK_S)
        raise Wrong(f"{what} did not happen within {_PATIENCE_S:.0f} s:\n{self.log.read_text()[-2000:]}")


@contextlib.contextmanager
def _running() -> Iterator[_Stack]:
    with tempfile.TemporaryDirectory(prefix="parley-demo-") as name:
        folder, log = Path(name) / "data", Path(name) / "up.log"
        port = _free_port()
        _say("starting everything on this machine, with the offline model")
        environment = {name: value for name, value in os.environ.items() if name not in _OFF}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*(sys.executable, "-P", "-m", "devtools", "up", "--port", str(port), "--data", str(folder))],
                env=environment | {"PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        stack = _Stack(folder, process, log, base=f"http://localhost:{port}")
        try:
            lines = stack.until(lambda: "\nready (" in log.read_text() and log.read_text().splitlines(), "the start")
            stack.notes = next(line.split()[1] for line in lines if line.split()[:1] == ["notes"] and "http" in line)
            yield stack
        finally:
            stack.http.close()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait()


def _subagents(stack: _Stack) -> None:
    for agent_id, tools in (("demo.reckoner", ["calculate"]), ("demo.writer", ["http_request"])):
        body = {"name": agent_id, "instructions": "Be brief.", "tools": tools}
        stack.call("PUT", f"/agents/{agent_id}", body)
    below = ["demo.reckoner", "demo.writer"]
    stack.call("PUT", "/agents/demo.boss", {"name": "Boss", "instructions": "Ask both.", "tools": [], "agents": below})
    _say("three agents: demo.boss may ask demo.reckoner and demo.writer")

    tasks = ("What is 17 * 23?", f"POST {json.dumps({'text': _NOTE})} to {stack.notes}")
    asks = [
        f"ask_{name.replace('.', '_')} {json.dumps({'input': task})}" for name, task in zip(below, tasks, strict=True)
    ]
    session_id = stack.call("POST", "/sessions", {"agent_id": "demo.boss"})["id"]
    turn = stack.call("POST", f"/sessions/{session_id}/messages", {"content": "\n".join(asks)})["turn"]
    path = f"/sessions/{session_id}/turns/{turn['id']}"
    _say("asked demo.boss for a sum, and for a note to be sent; each is a subagent's")

    def waits() -> list[str] | None:
        """The turns of both, once one has ended and the other one waits."""
        found: list[Json] = stack.call("GET", path)["subagents"]
        statuses = {one["agent_id"]: one["status"] for one in found}
        is_so = statuses == {"demo.reckoner": "completed", "demo.writer": "waiting_approval"}
        return [one["turn_id"] for one in found] if is_so else None

    before = stack.until(waits, "the wait of one subagent")
    _say("demo.reckoner has answered; demo.writer waits for a person, and so does demo.boss")
    if _notes(stack):
        raise Wrong("a note was sent before anybody approved it")

    pid = stack.host_pid()
    os.kill(pid, signal.SIGKILL)
    _say(f"kill -9 {pid}: the host is gone, in the middle of it all")
    stack.until(lambda: stack.host_pid() != pid and stack.call("GET", "/health/ready"), "the host's return")
    _say("the host runs again")
    if stack.until(waits, "the same wait") != before:
        raise Wrong("a subagent was asked again")
    _say("demo.writer still waits, and the answer of demo.reckoner is still there: nobody was asked again")

    (approval,) = stack.call("GET", "/approvals?status=pending")["items"]
    stack.call("POST", f"/approvals/{approval['id']}/decision", {"decision": "approve"})
    _say(f"approved what {approval['agent_id']} asked for, through {', '.join(approval['asked_through'])}")

    def ended() -> Json | None:
        found = stack.call("GET", path)
        return found if found["ended_at"] else None

    _judge(stack, stack.until(ended, "the end of the turn"))


def _judge(stack: _Stack, turn: Json) -> None:
    answers = [str((one["result"] or {}).get("content")) for one in turn["tool_calls"]]
    notes = _notes(stack)
    sent = [one["note"] for one in notes]
    _say(f"the turn is {turn['status']}; the notes that arrived: {json.dumps(sent)}")
    if turn["status"] != "completed" or len(answers) != 2 or _SUM not in answers[0]:
        raise Wrong(f"the turn did not end as it should: {json.dumps(turn)[:1000]}")
    if sent != [{"text": _NOTE}]:
        raise Wrong("the note should have arrived once")
    _say(f"right: the sum is {_SUM}, and the note arrived once")


def _notes(stack: _Stack) -> list[Json]:
    found: list[Json] = stack.http.get(stack.notes).json()["notes"]
    return found


def _free_port() -> int:
    from devhost.servers.folder import free_port

    return free_port()


def _say(text: str) -> None:
    print(f"demo: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
