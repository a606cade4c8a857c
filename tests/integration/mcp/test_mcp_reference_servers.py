"""The client against MCP servers that nobody here wrote.

Two are on the Python SDK, which is modern, and one is on the TypeScript SDK, which wants a session.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.sessions.mcp.pins import PinnedTool, pin_of, planned
from shared.sessions.mcp.results import McpResult
from shared.sessions.mcp.servers import McpServer
from shared.sessions.tools.base import validate_arguments
from shared.sessions.tools.kinds.pinned import pinned_tool
from tests.integration.mcp.served import client_of
from tests.support import node

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

HERE = Path(__file__).parent / "reference"


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def said(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        found = re.search(pattern, line)
        if found is not None:
            return found
    raise AssertionError(f"it ended without a word of {pattern}: {''.join(lines)}")


@pytest.fixture(scope="module")
def python_ports() -> Iterator[dict[str, int]]:
    with running([sys.executable, str(HERE / "serve.py"), "time", "git"]) as process:
        found = [said(process, r"(time|git) (\d+)") for _ in range(2)]
        yield {match[1]: int(match[2]) for match in found}


@pytest.fixture(scope="module")
def everything_port() -> Iterator[int]:
    modules = node.install(HERE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = modules / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    environment = {**node.node_environment(), "PORT": str(port)}
    with running([str(node.node_binary()), str(program), "streamableHttp"], env=environment) as process:
        said(process, r"listening on port")
        yield port


class Tried:
    """One server, its tools pinned and called as a turn does it."""

    def __init__(self, name: str, port: int) -> None:
        self.client = client_of(f"127.0.0.1:{port}", f"localhost:{port}")
        self.name, self.url = name, f"http://127.0.0.1:{port}/mcp"
        self.version = ""

    async def pins(self, *tools: str) -> Mapping[str, PinnedTool]:
        server = McpServer(name=self.name, url=self.url, tools=list(tools))
        offered = await self.client.offered(server)
        self.version = offered.protocol_version
        return planned([server], [pin_of(server, offered.definitions[tool]) for tool in tools])

    async def call(self, tool: str, arguments: dict[str, Any], **options: Any) -> McpResult:
        pinned = next(iter((await self.pins(tool)).values()))
        validate_arguments(pinned_tool(pinned), arguments)
        return await self.client.call(pinned, arguments, tool_call_id="call-1", **options)


async def test_the_time_server_tells_the_time(python_ports: dict[str, int]) -> None:
    time = Tried("time", python_ports["time"])

    outcome = await time.call("get_current_time", {"timezone": "Europe/Zurich"})

    assert time.version == "2026-07-28"
    assert outcome.data["timezone"] == "Europe/Zurich"
    assert not outcome.is_error


async def test_the_time_server_says_what_it_does_not_know(python_ports: dict[str, int]) -> None:
    outcome = await Tried("time", python_ports["time"]).call("get_current_time", {"timezone": "Mars/Olympus"})

    assert outcome.is_error
    assert "Mars/Olympus" in outcome.text


def in_git(folder: Path, *command: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *command], check=True, capture_output=True, text=True).stdout


async def test_the_git_server_changes_a_repository(python_ports: dict[str, int], tmp_path: Path) -> None:
    git = Tried("git", python_ports["git"])
    in_git(tmp_path, "init", "-q", "-b", "main")
    for name in ("user.name", "user.email"):
        in_git(tmp_path, "config", name, "a@example.test")
    (tmp_path / "a.txt").write_text("a\n")

    await git.call("git_add", {"repo_path": str(tmp_path), "files": ["a.txt"]})
    outcome = await git.call("git_commit", {"repo_path": str(tmp_path), "message": "Say a"})

    assert git.version == "2026-07-28"
    assert "committed" in outcome.text.lower()
    assert in_git(tmp_path, "log", "--format=%s") == "Say a\n"


async def test_every_tool_of_the_git_server_can_be_pinned(python_ports: dict[str, int]) -> None:
    git = Tried("git", python_ports["git"])
    server = McpServer(name="git", url=git.url, tools=["git_status"])

    offered = await git.client.offered(server)

    assert len(offered.definitions) >= 10
    assert offered.refused == {}


async def test_the_everything_server_gets_a_session(everything_port: int) -> None:
    everything = Tried("all", everything_port)

    outcome = await everything.call("echo", {"message": "hello"})

    assert everything.version == "2025-11-25"
    assert outcome.text == "Echo: hello"


async def test_the_everything_server_returns_everything(everything_port: int) -> None:
    everything = Tried("all", everything_port)

    image = await everything.call("get-tiny-image", {})
    links = await everything.call("get-resource-links", {"count": 2})
    structured = await everything.call("get-structured-content", {"location": "New York"})
    annotated = await everything.call("get-annotated-message", {"messageType": "error", "includeImage": False})

    assert "[image image/png, " in image.text
    assert links.text.count("[link ") == 2
    assert structured.data["temperature"] == 33
    assert "Error" in annotated.text


async def test_the_everything_server_tells_its_progress(everything_port: int) -> None:
    told: list[tuple[float, float | None, str]] = []

    def note(done: float, total: float | None, message: str) -> None:
        told.append((done, total, message))

    arguments = {"duration": 0.2, "steps": 2}
    outcome = await Tried("all", everything_port).call("trigger-long-running-operation", arguments, on_progress=note)

    assert "Long running operation completed" in outcome.text
    assert [(done, total) for done, total, _ in told] == [(1.0, 2.0), (2.0, 2.0)]
