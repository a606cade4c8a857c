"""Stops a program's servers when the program itself is gone, even by `kill -9`.

Run as `python -I -S reaper.py` with a pipe as standard input. The parent writes one line per event:
`+ PID SIGNAL SECONDS` when a server started, `- PID` when it ended. A closed pipe means that the parent is
gone (or has ended normally, with an empty list): every server still listed gets SIGNAL, and SIGKILL after
SECONDS. Imports only modules that load within a few milliseconds.

Invariant: only a process that still leads its own session is signalled. Each server is started as a
session leader, so a pid that was reused by something else is left alone.
"""

from __future__ import annotations

import os
import signal
import sys
import time


def leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid and not is_zombie(pid)
    except OSError:
        return False


def is_zombie(pid: int) -> bool:
    """Whether it has ended but was not collected: the init of some containers does so late or never. Needs /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123  # pathlib would double the start time
            return stat.read().rpartition(b")")[2].split()[:1] == [b"Z"]
    except OSError:
        return False


def signal_group(pid: int, number: int) -> None:
    if leads_session(pid):
        try:
            os.killpg(pid, number)
        except OSError:
            return  # it ended between the two calls


def reap(servers: dict[int, tuple[int, float]]) -> None:
    for pid, (number, _) in servers.items():
        signal_group(pid, number)
    began = time.monotonic()
    left = dict(servers)
    while left:
        for pid, (_, seconds) in list(left.items()):
            if not leads_session(pid):
                del left[pid]
            elif time.monotonic() - began > seconds:
                signal_group(pid, signal.SIGKILL)
                del left[pid]
        time.sleep(0.02)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    servers: dict[int, tuple[int, float]] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", pid, stop_signal, seconds]:
                servers[int(pid)] = (int(stop_signal), float(seconds))
            case ["-", pid]:
                servers.pop(int(pid), None)
    reap(servers)


if __name__ == "__main__":
    main()
