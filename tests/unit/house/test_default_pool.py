"""Nothing of ours runs in the event loop's default pool, in which libraries resolve the names of hosts.

Work that fills it holds up every new connection, and with it every user.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SERVING = ("shared", "activities", "orchestrators", "triggers", "devhost")
POOLS = {"shared/work_pool.py", "devhost/threads.py"}
"""Where threads are made."""
DEFAULT_POOL = {"to_thread", "run_in_threadpool", "getnameinfo", "run_sync", "iterate_in_threadpool"}


def uses_of_threads(source: str) -> Iterator[tuple[int, str]]:
    """(line, what is called) of each call that uses the default pool or makes threads."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
        executor = node.args[0] if node.args else None
        if (
            name in DEFAULT_POOL
            or (name == "getaddrinfo" and owner != "socket")
            or (name == "run_in_executor" and isinstance(executor, ast.Constant) and executor.value is None)
        ) or name in {"ThreadPoolExecutor", "ProcessPoolExecutor"}:
            yield node.lineno, name


@pytest.mark.parametrize("package", SERVING)
def test_nothing_that_serves_uses_the_default_pool(package: str) -> None:
    found = [
        f"{place}:{line}: {name}"
        for file in sorted((ROOT / package).rglob("*.py"))
        if (place := str(file.relative_to(ROOT))) not in POOLS
        for line, name in uses_of_threads(file.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "await asyncio.to_thread(work)",
        "await loop.run_in_executor(None, work)",
        "await asyncio.get_running_loop().getaddrinfo('a', 1)",
        "await anyio.to_thread.run_sync(work)",
        "await run_in_threadpool(work)",
        "ThreadPoolExecutor(4)",
    ],
)
def test_each_way_into_it_is_found(line: str) -> None:
    assert list(uses_of_threads(f"async def f():\n    {line}"))
    assert not list(uses_of_threads("async def f():\n    await pool.run('ann', work); socket.getaddrinfo('a', 1)"))
