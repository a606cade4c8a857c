"""Drives one turn: its orchestration and those of its calls, with the app's own activities, on a clock that is given.

Here nothing happens by itself: work that is asked for is done in its order, and when all that is left waits, the
earliest of what comes next happens: a timer, or what somebody outside did (a vote, a result).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from devtools.histories.player import Play

type Activity = Callable[[Any], Awaitable[Any]]
_MOST_EVENTS = 2_000


class Stuck(Exception):
    """It waits for what nobody sends, or never ends."""


class Clock(Protocol):
    def move(self, to: datetime) -> None:
        """To a later time; an earlier one changes nothing. to: aware."""
        ...

    def now(self) -> datetime: ...


class Outside(Protocol):
    """What happens outside of the turn."""

    async def next(self) -> datetime | None:
        """When the next thing happens; None: nothing does."""
        ...

    async def happen(self) -> list[tuple[str, str]]:
        """Let it happen. (instance, event) of what the orchestrations must hear of it."""
        ...


@dataclass
class Family:
    """orchestrators, activities: by name, as the app registers them."""

    orchestrators: Mapping[str, Any]
    activities: Mapping[str, Activity]
    clock: Clock
    outside: Outside
    _plays: dict[str, Play] = field(default_factory=dict)
    _parents: dict[str, Play] = field(default_factory=dict)

    async def run(self, name: str, instance_id: str) -> Any:
        """Until it has ended; its output. Raises Stuck, and what an activity raises."""
        root = self._begin(name, instance_id, None)
        for _ in range(_MOST_EVENTS):
            if root.is_over:
                if root.failed is not None:
                    raise Stuck(root.failed)
                return root.output
            if not (self._start_children() or self._end_children() or await self._work()):
                await self._wait()
        raise Stuck(f"not over after {_MOST_EVENTS} events")

    def _begin(self, name: str, instance_id: str, given: Any) -> Play:
        play = Play(self.orchestrators[name], name, instance_id, given, now_us=self._now_us())
        self._plays[instance_id] = play
        return play.begin()

    def _start_children(self) -> bool:
        for play in list(self._plays.values()):
            for child in play.children.values():
                if child.instance_id not in self._plays:
                    self._parents[child.instance_id] = play
                    self._begin(child.name, child.instance_id, json.loads(json.loads(child.input)))
                    return True
        return False

    def _end_children(self) -> bool:
        for instance_id, parent in list(self._parents.items()):
            child = self._plays[instance_id]
            if not child.is_over:
                continue
            del self._parents[instance_id]
            parent.now_us = max(parent.now_us, self._now_us())
            if child.failed is not None:
                parent.fail_child(instance_id, child.failed)
            else:
                parent.end_child(instance_id, child.output)
            return True
        return False

    async def _work(self) -> bool:
        for play in self._plays.values():
            work = next(iter(play.activities.values()), None)
            if work is not None:
                result = await self.activities[work.name](json.loads(work.input))
                play.now_us = max(play.now_us, self._now_us())
                play.complete(work.name, result)
                return True
        return False

    async def _wait(self) -> None:
        timers = [play for play in self._plays.values() if play.timers and not play.is_over]
        first = min(timers, key=_due_us, default=None)
        due = None if first is None else datetime.fromtimestamp(_due_us(first) / 1_000_000, UTC)
        happens = await self.outside.next()
        if happens is not None and (due is None or happens <= due):
            self.clock.move(happens)
            for instance_id, event in await self.outside.happen():
                play = self._plays.get(instance_id)
                if play is not None and not play.is_over:
                    play.now_us = max(play.now_us, self._now_us())
                    play.hear(event, {})
        elif first is not None and due is not None:
            self.clock.move(due)
            first.pass_time()
        else:
            raise Stuck("it waits for what nobody sends")

    def _now_us(self) -> int:
        return int(self.clock.now().timestamp() * 1_000_000)


def _due_us(play: Play) -> int:
    return min(timer.fire_at_us for timer in play.timers.values())
