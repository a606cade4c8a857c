"""Which recorded answer a request gets, and in what the request differs from the recorded one. Pure.

A request is answered when its conversation is the recorded one: what users wrote, what the model answered, its calls
with their arguments, and the results that it read, in order. Then the recorded answer is an answer to it. What else a
request has (instructions, tools, settings of the model) is compared, and a difference is told as a change, since the
model might have answered something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from devtools.cases.case import Call, Case, Definition, Json, Step
from devtools.cases.of_wire import definitions
from devtools.lines import one_line
from shared.sessions.context.window import estimate_tokens
from shared.sessions.llm.conversation import AssistantSaid, Said, ToolAnswered, UserSaid
from shared.sessions.llm.protocol import ModelRequest
from shared.sessions.model_requests.request import UNTRUSTED_NOTE

_BYTES_PER_TOKEN = 4
_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a conversation, as it is compared."""

    who: str
    said: str

    def __str__(self) -> str:
        return f"{self.who}: {one_line(self.said, _MAX_SHOWN)}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded answer, and the conversation before it. turn, step: from 0."""

    turn: int
    step: int
    answer: Step
    before: tuple[Line, ...]


def recorded(case: Case) -> list[Recorded]:
    """Every answer, in the order in which they were given."""
    found: list[Recorded] = []
    lines: list[Line] = []
    for number, turn in enumerate(case.turns):
        lines.append(Line("the user", turn.message))
        for place, step in enumerate(turn.steps):
            found.append(Recorded(number, place, step, tuple(lines)))
            if step.error is not None:
                continue  # models do not read what failed
            if step.text or step.calls:
                lines.append(Line("the model", step.text))
            lines += [_called(call.name, call.arguments) for call in step.calls]
            lines += [Line(f"the result of {call.name}", read_by_model(call)) for call in step.calls]
    return found


def asked(conversation: Sequence[Said]) -> list[Line]:
    """A request's conversation."""
    names: dict[str, str] = {}
    lines: list[Line] = []
    for said in conversation:
        if isinstance(said, UserSaid):
            lines.append(Line("the user", said.text))
        elif isinstance(said, AssistantSaid):
            lines.append(Line("the model", said.text))
            names |= {call.id: call.name for call in said.calls}
            lines += [_called(call.name, json.loads(call.arguments or "{}")) for call in said.calls]
        elif isinstance(said, ToolAnswered):
            lines.append(Line(f"the result of {names.get(said.call_id, said.call_id)}", _read(said.text)))
    return lines


def first_difference(before: Sequence[Line], now: Sequence[Line]) -> tuple[str, str] | None:
    """(recorded, now) of the first line that differs; None: it is the same conversation."""
    for index in range(max(len(before), len(now))):
        was = before[index] if index < len(before) else None
        is_now = now[index] if index < len(now) else None
        if was != is_now:
            return ("nothing" if was is None else str(was)), ("nothing" if is_now is None else str(is_now))
    return None


def read_by_model(call: Call) -> str:
    """What the model reads of a call's end, without what depends on where it ran."""
    result = call.result
    return _end({"status": result.status, "untrusted_output": result.content, "error": result.error})


def _read(text: str) -> str:
    try:
        told = json.loads(text)
    except ValueError:
        return text
    if not isinstance(told, dict):
        return text
    return _end(told)


def _end(told: Json) -> str:
    """A call that nobody approved in time is rejected; its model reads `timed_out`."""
    told = told | {"status": "rejected" if told.get("status") == "timed_out" else told.get("status")}
    return _normal({key: told[key] for key in ("status", "untrusted_output", "error") if told.get(key) is not None})


def _normal(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _called(name: str, arguments: Json) -> Line:
    return Line(f"a call of {name}", _normal(arguments))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request has beside its conversation. tools: None: the last step of a turn, which offers none."""

    instructions: str
    tools: dict[str, Definition] | None
    settings: Json

    @property
    def tokens(self) -> int:
        return estimate_tokens(self.instructions) + chars(self.tools or {}) // _BYTES_PER_TOKEN


def asked_of(request: ModelRequest) -> Asked:
    return Asked(
        instructions=request.instructions.removesuffix(f"\n\n{UNTRUSTED_NOTE}"),
        tools=definitions(json.loads(tool) for tool in request.tools) if request.tools else None,
        settings={
            "temperature": request.temperature,
            "reasoning_effort": request.reasoning_effort,
            "output_schema": request.output_schema,
        },
    )


def chars(tools: dict[str, Definition]) -> int:
    return sum(definition.chars for definition in tools.values())


def recorded_request(case: Case) -> Asked:
    """As it was when the case was recorded."""
    content, defaults = case.agent.content, case.agent.content.get("defaults", {})
    return Asked(
        instructions=content["instructions"],
        tools=case.tools,
        settings={
            name: case.config.get(name, defaults.get(name))
            for name in ("temperature", "reasoning_effort", "output_schema")
        },
    )


def differences(was: Asked, now: Asked) -> Iterator[tuple[str, str, str]]:
    """(what, recorded, now) of each part that differs."""
    if was.instructions != now.instructions:
        before, after = was.instructions.splitlines(), now.instructions.splitlines()
        gone = [line for line in before if line not in after]
        new = [line for line in after if line not in before]
        yield "instructions", " / ".join(gone) or "nothing", " / ".join(new) or "nothing"
    for name in ("temperature", "reasoning_effort"):
        if was.settings[name] != now.settings[name]:
            yield name, str(was.settings[name]), str(now.settings[name])
    if now.tools is None:
        return
    tools = was.tools or {}
    for name in sorted(tools.keys() | now.tools.keys()):
        if name not in now.tools:
            yield f"tool {name}", "offered", "not offered"
        elif name not in tools:
            yield f"tool {name}", "not offered", "offered"
        else:
            parts = ("description", "parameters")
            changed = [part for part in parts if getattr(tools[name], part) != getattr(now.tools[name], part)]
            if changed:
                yield f"tool {name}", "as recorded", f"its {' and '.join(changed)} changed"
