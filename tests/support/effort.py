"""Says at the end of a run what it cost: processor time, and the hosts that it started, by file.

A host costs more than most tests do: `tests/README.md` says which one to use. Load it as a plugin of pytest.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.forking import client

_SHOWN = 5

_started = 0
"""By this process: hosts, and workers of hosts that run in it."""


def _counted(start: Callable[..., None]) -> Callable[..., None]:
    """`Popen.__init__`, through which asyncio starts its processes too. Not an audit hook: that hears every `id()`."""

    @functools.wraps(start)
    def counting(process: subprocess.Popen[Any], args: Any, *more: Any, **options: Any) -> None:
        global _started
        start(process, args, *more, **options)
        words = [] if isinstance(args, str | bytes | os.PathLike) else [os.fsdecode(word) for word in args]
        if ("-m" in words and "devhost" in words) or any("devhost.worker.process" in word for word in words):
            _started += 1

    return counting


def _hosts_started() -> int:
    return _started + client.forked


class Effort:
    """One per process. Of several, the first one adds up what the others tell it."""

    def __init__(self) -> None:
        self.hosts: Counter[str] = Counter()
        self.processor_s = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        before = _hosts_started()
        result = yield
        if _hosts_started() > before:
            self.hosts[item.nodeid.partition("::")[0]] += _hosts_started() - before
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        client.close_fork_servers()
        # With the processes that have ended: the servers may outlive the run. Other workers speak for themselves.
        is_alone = not session.config.pluginmanager.hasplugin("dsession")
        self.processor_s += sum(os.times()[: 4 if is_alone else 2])
        told: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if told is not None:
            told["effort"] = (dict(self.hosts), self.processor_s)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        hosts, processor_s = getattr(node, "workeroutput", {}).get("effort", ({}, 0.0))
        self.hosts.update(hosts)
        self.processor_s += processor_s

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.hosts:
            return
        most = ", ".join(f"{count} {file}" for file, count in self.hosts.most_common(_SHOWN))
        terminalreporter.write_line(
            f"{self.processor_s:.0f} s of processor time; hosts started: {self.hosts.total()} (most: {most})"
        )


def pytest_configure(config: pytest.Config) -> None:
    subprocess.Popen.__init__ = _counted(subprocess.Popen.__init__)  # type: ignore[method-assign]
    config.pluginmanager.register(Effort(), "effort")
