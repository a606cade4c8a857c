from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devhost.model",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await start("--port", "0", "--ready-file", str(tmp_path / "ready"))
    yield started
    if started.returncode is None:
        started.kill()
    await started.wait()


async def wait_until_ready(process: asyncio.subprocess.Process) -> str:
    """The base URL the process prints."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().split()[-1]


async def test_the_process_reports_ready_serves_and_stops_on_sigterm(
    process: asyncio.subprocess.Process,
) -> None:
    base = await wait_until_ready(process)
    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.get(f"{base}/models")).json()["data"][0]["id"] == "offline-demo"
        body = {"model": "m", "messages": [{"role": "user", "content": "1000 words"}], "stream": True}
        async with http.stream("POST", f"{base}/chat/completions", json=body) as response:
            async for _ in response.aiter_bytes():
                break
            process.send_signal(signal.SIGTERM)  # in the middle of a stream
            assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_the_ready_file_holds_the_base_url(process: asyncio.subprocess.Process, tmp_path: Path) -> None:
    base = await wait_until_ready(process)
    process.terminate()
    await asyncio.wait_for(process.wait(), 30)
    assert os.listdir(tmp_path) == ["ready"]  # and no draft beside it
    assert (tmp_path / "ready").read_text() == base + "\n"


async def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await start("--port", str(taken.getsockname()[1]))
        async with asyncio.timeout(60):
            _, stderr = await process.communicate()
    assert process.returncode == 1
    assert stderr.decode().startswith("offline model: cannot listen on 127.0.0.1:")
    assert len(stderr.decode().splitlines()) == 1


async def test_options_of_the_command_line_reach_the_server() -> None:
    options = ["--model", "one", "--model", "two", "--api-key", "k", "--refuse-parameter", "reasoning.summary"]
    options += ["--tools-need-responses", "--no-tool-choice", "--context-tokens", "50", "--overflow", "llama.cpp"]
    process = await start("--port", "0", "--tokens-per-second", "0", "--first-token-ms", "0", *options)
    try:
        base = await wait_until_ready(process)
        tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
        chat = {"model": "one", "messages": [{"role": "user", "content": "x"}], "tool_choice": "required"}
        async with httpx.AsyncClient(timeout=30, headers={"api-key": "k"}) as http:

            async def refused(path: str, body: object) -> str:
                return (await http.post(f"{base}/{path}", json=body)).text

            assert [model["id"] for model in (await http.get(f"{base}/models")).json()["data"]] == ["one", "two"]
            asked = {"model": "one", "input": "x"}
            assert "model_not_found" in await refused("responses", {**asked, "model": "three"})
            assert "reasoning.summary" in await refused("responses", {**asked, "reasoning": {"summary": "auto"}})
            assert "--enable-auto-tool-choice" in await refused("responses", {**asked, "tools": [tool]})
            assert "exceed_context_size_error" in await refused("responses", {**asked, "input": "x " * 200})
            named = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
            assert "use /v1/responses" in await refused("chat/completions", {**chat, "tools": [named]})
            assert (await http.post(f"{base}/responses", json=asked)).status_code == 200
            http.headers["api-key"] = "other"
            assert "invalid_api_key" in await refused("responses", asked)
    finally:
        process.kill()
        await process.wait()
