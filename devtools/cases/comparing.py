"""What changed between a recorded case and how it went today. Pure, but for the judge that it is given.

A change of behaviour fails a case: what is called with which arguments, what waits for whom, how calls and turns end,
the last text, the cost. That a model is asked otherwise (instructions, tools) is told as a note: its recorded answers
do not depend on it, and it is what somebody who edits an agent wants to change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from devtools.cases.case import Call, Case, Tokens, Turn
from devtools.cases.matching import differences, recorded_request
from devtools.cases.playing import NO_RESULT, Played
from devtools.lines import one_line
from shared.sessions.models import TurnStatus

type Judge = Callable[[str, str], Awaitable[str | None]]
"""(what an answer must say, the answer): why it does not; None: it does. Raises NoVerdict."""

_MAX_SHOWN = 240


class NoVerdict(Exception):
    """The judge gave none; the message says why."""


class Kind(StrEnum):
    PROMPT = "prompt"  # what the model was asked beside the conversation
    CALLS = "tool calls"
    ARGUMENTS = "arguments"
    APPROVALS = "approvals"
    RESULTS = "results"  # how calls ended
    TEXT = "text"
    END = "end"  # how a turn ended
    COST = "cost"
    UNANSWERED = "not recorded"  # a request or call that the recording has no answer for


@dataclass(frozen=True, slots=True)
class Change:
    """where: such as `turn 2`."""

    kind: Kind
    where: str
    was: str
    now: str
    is_note: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {one_line(self.was, _MAX_SHOWN)} -> {one_line(self.now, _MAX_SHOWN)}"


async def changes(case: Case, played: Played, judge: Judge | None = None) -> list[Change]:
    """In the order of the conversation. judge: None: nobody judges texts."""
    found = list(_asked(case, played))
    for index, was in enumerate(case.turns):
        where = f"turn {index + 1}"
        now = played.today.turns[index] if index < len(played.today.turns) else None
        if now is None:
            if not played.seen.unanswered and played.broke_off is None:
                found.append(Change(Kind.END, where, was.ends.status, "not played"))
            break
        found += _turn(where, was, now)
        if _ended(was) == _ended(now):
            found += await _text(where, was, now, judge)
        if was.ends.status == now.ends.status == TurnStatus.COMPLETED:  # of a broken answer it is an estimate
            found += _cost(where, was.ends.used, now.ends.used, was.expect.cost_within)
    found += (
        Change(Kind.UNANSWERED, f"turn {turn + 1}", f"the model was asked after {was}", f"it is asked after {now}")
        for turn, was, now in played.seen.unanswered
    )
    found += (
        Change(Kind.UNANSWERED, "the case", "no such call ran", f"{call} runs, and has no recorded result")
        for call in played.seen.without_result
    )
    found += (Change(Kind.APPROVALS, "the case", "a vote counted", f"refused: {vote}") for vote in played.refused_votes)
    if played.broke_off is not None:
        found.append(Change(Kind.END, "the case", "played to its end", played.broke_off))
    return found


def _asked(case: Case, played: Played) -> Iterator[Change]:
    """Each difference once, though every request has it."""
    was = recorded_request(case)
    told = dict.fromkeys(each for now in played.seen.requests for each in differences(was, now))
    for what, before, now in told:
        yield Change(Kind.PROMPT, what, before, now, is_note=True)


def _turn(where: str, was: Turn, now: Turn) -> Iterator[Change]:
    before, after = _calls(was), _calls(now)
    names, called = [call.name for call in before], [call.name for call in after]
    if names != called:
        yield Change(Kind.CALLS, where, ", ".join(names) or "none", ", ".join(called) or "none")
    for old, new in zip(before, after, strict=False):
        if old.name != new.name:
            break
        yield from _call(f"{where}, {old.name}", old, new)
    if _ended(was) != _ended(now):
        yield Change(Kind.END, where, _ended(was), _ended(now))


def _call(where: str, was: Call, now: Call) -> Iterator[Change]:
    if was.arguments != now.arguments:
        yield Change(Kind.ARGUMENTS, where, _json(was.arguments), _json(now.arguments))
    if was.ran_with != now.ran_with:
        yield Change(Kind.ARGUMENTS, where, f"ran with {_json(was.ran_with)}", f"ran with {_json(now.ran_with)}")
    before, after = was.approval, now.approval
    if (before is None) != (after is None):
        yield Change(Kind.APPROVALS, where, _asked_of(was), _asked_of(now))
    elif before is not None and after is not None:
        if before.requires != after.requires:
            yield Change(Kind.APPROVALS, where, _asked_of(was), _asked_of(now))
        if before.status != after.status:
            yield Change(Kind.APPROVALS, where, before.status, after.status)
        if before.reason != after.reason:
            yield Change(Kind.APPROVALS, where, before.reason or "no reason", after.reason or "no reason")
    if now.result.error != NO_RESULT and _result(was) != _result(now):
        yield Change(Kind.RESULTS, where, _result(was), _result(now))


async def _text(where: str, was: Turn, now: Turn, judge: Judge | None) -> list[Change]:
    before, after = _last(was), _last(now)
    wanted = was.expect.text
    if before == after or wanted == "any":
        return []
    if wanted == "exact":
        return [Change(Kind.TEXT, where, before, after)]
    if wanted.pattern is not None and re.search(wanted.pattern, after) is None:
        return [Change(Kind.TEXT, where, f"matches {wanted.pattern!r}", after)]
    if wanted.judge is not None:
        if judge is None:
            return [Change(Kind.TEXT, where, wanted.judge, "nobody judges it: name a model by --judge-url")]
        try:
            why = await judge(wanted.judge, after)
        except NoVerdict as error:
            why = f"the judge gave no verdict: {error}"
        if why is not None:
            return [Change(Kind.TEXT, where, wanted.judge, f"{why}: {after}")]
    return []


def _cost(where: str, was: Tokens, now: Tokens, within: float) -> Iterator[Change]:
    before, after = was.input + was.output, now.input + now.output
    if was.cost_usd is not None and now.cost_usd is not None:
        if _apart(was.cost_usd, now.cost_usd, within):
            yield Change(Kind.COST, where, f"{was.cost_usd:.6f} USD", f"{now.cost_usd:.6f} USD")
    elif _apart(before, after, within):
        yield Change(Kind.COST, where, f"about {before} tokens", f"about {after} tokens")


def _apart(was: float, now: float, within: float) -> bool:
    return abs(now - was) > within * was


def _calls(turn: Turn) -> list[Call]:
    return [call for step in turn.steps for call in step.calls]


def _ended(turn: Turn) -> str:
    error = turn.ends.error
    return turn.ends.status if error is None else f"{turn.ends.status}, {error}"


def _last(turn: Turn) -> str:
    return turn.steps[-1].text if turn.steps else ""


def _asked_of(call: Call) -> str:
    if call.approval is None:
        return "nobody is asked"
    return f"asks {' and '.join(call.approval.requires) or 'somebody'}"


def _result(call: Call) -> str:
    result = call.result
    return " ".join(part for part in (result.status, result.code, result.error, result.content) if part)


def _json(value: Any) -> str:
    return "its own arguments" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
