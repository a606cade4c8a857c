"""The moments of a turn: functions that begin or end, of whatever process.

Each process notes the moments of the modules that it imports, as lines `nanoseconds number` of one file. The clock is
the machine's, so moments of several processes have one order.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

FILE = "BENCH_TIMELINE"
"""The environment variable with the path of the file."""


@dataclass(frozen=True, slots=True)
class Moment:
    """function: of the module, or `Class.method`. nth: which of its calls in a turn, from 1. once: an attribute of the
    method's object; the moment is when it is set, and not the call's end."""

    text: str
    module: str
    function: str
    is_end: bool = False
    nth: int = 1
    once: str = ""


_CLIENT = "devtools.bench.load.client"
_STEPS = "shared.adapters.postgres.turns.steps"
_TURNS = "shared.adapters.postgres.turns.turns"
_EVENTS = "shared.adapters.redis.events"
_DURABLE = "activities.durable_client"
_ENGINE = "devhost.durable.workers.activities"

MOMENTS = (
    Moment("the client sends its message", _CLIENT, "Client._turn_on_its_own_stream"),
    Moment("the host has passed it on, and the function begins", "triggers.http.endpoints", "_serve"),
    Moment("the session is read, its turn planned", _TURNS, "PostgresTurns.post_message"),
    Moment("message and turn are stored", _TURNS, "PostgresTurns.post_message", is_end=True),
    Moment("their events are numbered", _EVENTS, "RedisEventLog.append", is_end=True),
    Moment("the orchestration is started", _DURABLE, "start_turn", is_end=True),
    Moment("the client has its answer, and asks for the stream", _CLIENT, "Client._post", is_end=True),
    Moment("the first episode is stored, the activity begins", _ENGINE, "Activities._call"),
    Moment("the worker runs it", "shared.sessions.bridge", "SessionAgentBridge.run_step"),
    Moment("beside it: the stream's reader may read", _TURNS, "PostgresTurns.readable_turn", is_end=True),
    Moment("the step has begun in the store", _STEPS, "PostgresSteps.begin_step", is_end=True),
    Moment("the model is asked", "shared.sessions.model_requests.request", "RequestBuilder.build", is_end=True),
    Moment("its first words are here", "shared.sessions.live.realtime", "StreamWriter.text"),
    Moment("they are numbered", _EVENTS, "RedisEventLog.append", is_end=True, nth=2),
    Moment("the client has them", "devtools.bench.load.view", "TurnView.feed", once="first_at"),
    Moment("the answer is complete", _STEPS, "PostgresSteps.save_last_step"),
    Moment("it is stored, the turn closed", _STEPS, "PostgresSteps.save_last_step", is_end=True),
    Moment("the client has the end", "devtools.bench.load.view", "TurnView.feed", once="ended_at"),
)


def note_moments() -> None:
    """Note those of the modules that this process imports from now on."""
    path = os.environ.get(FILE)
    if path:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        sys.meta_path.insert(0, _Finder(lambda number: _note(file, number)))


def _note(file: int, number: int) -> None:
    # One write: lines of several processes do not mix.
    os.write(file, b"%d %d\n" % (time.monotonic_ns(), number))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, note: Callable[[int], None]) -> None:
        self._note = note
        self._modules: defaultdict[str, list[int]] = defaultdict(list)
        for number, moment in enumerate(MOMENTS):
            self._modules[moment.module].append(number)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._modules[name], self._note)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, numbers: Sequence[int], note: Callable[[int], None]) -> None:
        self._loader = loader
        self._numbers = numbers
        self._note = note

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for number in self._numbers:
            owner_name, _, name = MOMENTS[number].function.rpartition(".")
            owner = getattr(module, owner_name) if owner_name else module
            setattr(owner, name, _noting(getattr(owner, name), MOMENTS[number], functools.partial(self._note, number)))


def _noting(function: Callable[..., Any], moment: Moment, note: Callable[[], None]) -> Callable[..., Any]:
    """The function, which notes a moment."""
    if moment.once:

        @functools.wraps(function)
        def watching(owner: Any, *arguments: Any) -> Any:
            before = getattr(owner, moment.once)
            result = function(owner, *arguments)
            if before is None and getattr(owner, moment.once) is not None:
                note()
            return result

        return watching
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waiting(*arguments: Any, **options: Any) -> Any:
            if not moment.is_end:
                note()
            result = await function(*arguments, **options)
            if moment.is_end:
                note()
            return result

        return waiting

    @functools.wraps(function)
    def calling(*arguments: Any, **options: Any) -> Any:
        if not moment.is_end:
            note()
        result = function(*arguments, **options)
        if moment.is_end:
            note()
        return result

    return calling
