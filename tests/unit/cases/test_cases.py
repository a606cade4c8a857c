"""A case as a file, the requests that its answers fit, and what counts as a change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devtools.cases.case import Case, Text, Unusable, files_of, read, text_of
from devtools.cases.comparing import Change, Kind, changes
from devtools.cases.judge import ModelJudge
from devtools.cases.matching import (
    asked,
    asked_of,
    differences,
    first_difference,
    read_by_model,
    recorded,
    recorded_request,
)
from devtools.cases.playing import Played, ReplayedModel, Seen
from devtools.cases.replaying import refuse_faults
from devtools.cases.report import Outcome, Summary
from shared.errors import ModelFailed
from shared.sessions.llm.conversation import AssistantSaid, ModelToolCall, ToolAnswered, UserSaid
from shared.sessions.llm.protocol import ModelEnd, ModelRequest, ModelText
from shared.sessions.llm.registry import ModelApi
from shared.sessions.tools import registry

CASES = Path(__file__).parents[3] / "examples" / "support" / "cases"
GIVEN = read(CASES / "approval-given.case.yaml")
DENIED = read(CASES / "approval-denied.case.yaml")


def _conversation(case: Case, *, upto: int) -> list[Any]:
    """The conversation before the answer of that number, as the app sends it."""
    said: list[Any] = []
    for number, turn in enumerate(case.turns):
        said.append(UserSaid(turn.message))
        for place, step in enumerate(turn.steps):
            if sum(len(each.steps) for each in case.turns[:number]) + place == upto:
                return said
            calls = [ModelToolCall(call.id, call.name, json.dumps(call.arguments)) for call in step.calls]
            said.append(AssistantSaid(step.text, calls))
            for call in step.calls:
                told = {
                    "status": call.result.status,
                    "untrusted_output": call.result.content,
                    "more": "is not compared",
                }
                told = told if call.result.error is None else {"status": call.result.status, "error": call.result.error}
                said.append(ToolAnswered(call.id, json.dumps(told)))
    return said


def _request(case: Case, *, upto: int, **changes: Any) -> ModelRequest:
    values: dict[str, Any] = {
        "model": "any",
        "api": ModelApi.CHAT,
        "instructions": case.agent.content["instructions"],
        "conversation": _conversation(case, upto=upto),
    }
    return ModelRequest(**values | changes)


def _changed(case: Case, *path: Any, to: Any) -> Case:
    told = case.model_dump(mode="json")
    inner = told
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return Case.model_validate(told)


@pytest.mark.parametrize("file", sorted(CASES.glob("*.case.yaml")), ids=lambda path: path.name)
def test_a_case_is_written_as_it_was_read(file: Path) -> None:
    assert text_of(read(file)) == file.read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("parley_case: 1", "parley_case: 2", "is no case of format 1"),
        ("    by: user-1", "    bye: user-1", "turns.0.by: Field required"),
        ("name: Approval given", "name: [", "is no YAML"),
        ("owner: user-1", "owner: user-1\nsurprise: 1", "surprise: Extra inputs"),
    ],
)
def test_a_file_that_is_no_case_is_refused_by_name(tmp_path: Path, old: str, new: str, why: str) -> None:
    file = tmp_path / "x.case.yaml"
    file.write_text((CASES / "approval-given.case.yaml").read_text("utf-8").replace(old, new, 1))
    with pytest.raises(Unusable, match=why):
        read(file)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="has no cases"):
        files_of([tmp_path])


@pytest.mark.parametrize(
    ("file", "text"), [("tools/broken.py", "import nowhere_at_all\n"), ("broken.md", "---\nname: [\n---\nx\n")]
)
def test_a_folder_of_agents_with_a_fault_is_refused(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / file).write_text(text)
    registry.take_from(tmp_path)
    try:
        with pytest.raises(Unusable, match=r"the agents cannot be read: .*broken"):
            refuse_faults(tmp_path)
    finally:
        registry.take_from(None)


@pytest.mark.parametrize("case", [GIVEN, DENIED], ids=["given", "denied"])
def test_every_recorded_answer_fits_the_conversation_before_it(case: Case) -> None:
    answers = recorded(case)
    assert len(answers) == sum(len(turn.steps) for turn in case.turns)
    for number, answer in enumerate(answers):
        assert first_difference(answer.before, asked(_conversation(case, upto=number))) is None


def test_a_call_that_nobody_approved_in_time_is_the_same_to_its_model() -> None:
    call = DENIED.turns[0].steps[1].calls[0]
    [line] = asked([ToolAnswered("call-9", json.dumps({"status": "timed_out", "error": call.result.error}))])
    assert line.said == read_by_model(call)


async def test_the_answer_is_given_with_its_calls_and_what_it_used() -> None:
    model = ReplayedModel(Seen(GIVEN))
    model.begin_turn(0)
    first, *_ = [event async for event in model.stream(_request(GIVEN, upto=0))]
    assert isinstance(first, ModelEnd)
    assert [(call.name, json.loads(call.arguments)) for call in first.tool_calls] == [
        ("find_order", {"order_id": "A-1001"})
    ]
    [_ async for _ in model.stream(_request(GIVEN, upto=1))]
    text, last = [event async for event in model.stream(_request(GIVEN, upto=2))]
    assert text == ModelText(GIVEN.turns[0].steps[-1].text)
    assert isinstance(last, ModelEnd)
    assert last.usage is not None
    # Three answers: the last has what the division leaves.
    used = GIVEN.turns[0].ends.used.output
    assert last.usage.output_tokens == used - 2 * (used // 3)


async def test_a_request_after_another_conversation_gets_no_answer() -> None:
    seen = Seen(GIVEN)
    model = ReplayedModel(seen)
    model.begin_turn(0)
    other = _changed(GIVEN, "turns", 0, "message", to="Something else")
    with pytest.raises(ModelFailed, match="has no answer"):
        [_ async for _ in model.stream(_request(other, upto=0))]
    [(turn, was, now)] = seen.unanswered
    assert (turn, now) == (0, "the user: Something else")
    assert was.startswith("the user: My espresso machine")


def test_what_a_request_has_beside_its_conversation_is_compared_by_parts() -> None:
    tool = {"name": "find_order", "description": "Another one", "parameters": {}}
    now = asked_of(
        _request(GIVEN, upto=0, instructions="Be rude.\n", tools=[json.dumps(tool).encode()], temperature=0.5)
    )
    told = {what: (was, is_now) for what, was, is_now in differences(recorded_request(GIVEN), now)}
    assert told["instructions"][1] == "Be rude."
    assert told["temperature"] == ("None", "0.5")
    assert told["tool find_order"] == ("as recorded", "its description and parameters changed")
    assert told["tool refund"] == ("offered", "not offered")


@pytest.mark.parametrize(
    ("path", "to", "kind", "words"),
    [
        (("turns", 0, "steps", 1, "calls", 0, "name"), "pay", Kind.CALLS, "find_order, refund -> find_order, pay"),
        (("turns", 0, "steps", 1, "calls", 0, "arguments", "amount"), 41, Kind.ARGUMENTS, '"amount": 41'),
        (("turns", 0, "steps", 1, "calls", 0, "ran_with"), {"amount": 1}, Kind.ARGUMENTS, 'ran with {"amount": 1}'),
        (("turns", 0, "steps", 1, "calls", 0, "approval"), None, Kind.APPROVALS, "-> nobody is asked"),
        (
            ("turns", 0, "steps", 1, "calls", 0, "approval", "requires"),
            ["2 of finance"],
            Kind.APPROVALS,
            "2 of finance",
        ),
        (("turns", 0, "steps", 1, "calls", 0, "approval", "reason"), "why", Kind.APPROVALS, "no reason -> why"),
        (("turns", 0, "steps", 0, "calls", 0, "result", "status"), "failed", Kind.RESULTS, "-> failed"),
        (("turns", 0, "ends", "status"), "failed", Kind.END, "completed -> failed"),
        (("turns", 0, "steps", 2, "text"), "Other words", Kind.TEXT, "-> Other words"),
        (("turns", 0, "ends", "used", "input"), 9_999, Kind.COST, "tokens -> about"),
    ],
)
async def test_each_kind_of_change_is_told_by_name(path: tuple[Any, ...], to: Any, kind: Kind, words: str) -> None:
    found = await changes(GIVEN, Played(_changed(GIVEN, *path, to=to), Seen(GIVEN)))
    assert [change.kind for change in found] == [kind]
    assert words in str(found[0])
    assert await changes(GIVEN, Played(GIVEN, Seen(GIVEN))) == []


async def test_a_turn_that_was_not_played_and_a_vote_that_was_refused_are_changes() -> None:
    shorter = DENIED.model_copy(update={"turns": DENIED.turns[:1]})
    found = await changes(DENIED, Played(shorter, Seen(DENIED), refused_votes=["user-2 on refund: no"]))
    assert [str(change) for change in found] == [
        "turn 2: end: completed -> not played",
        "the case: approvals: a vote counted -> refused: user-2 on refund: no",
    ]


async def test_money_is_compared_where_both_prices_are_known_and_within_what_the_case_allows() -> None:
    priced = _changed(GIVEN, "turns", 0, "ends", "used", "cost_usd", to=0.010)
    for now, kinds in ((0.0109, []), (0.012, [Kind.COST])):
        today = _changed(priced, "turns", 0, "ends", "used", "cost_usd", to=now)
        assert [change.kind for change in await changes(priced, Played(today, Seen(priced)))] == kinds


@pytest.fixture
async def judge() -> AsyncIterator[tuple[ModelJudge, list[Any]]]:
    """A judge, and what it was asked; it says what the demand says."""
    heard: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        heard.append((request.headers.get("Authorization"), body))
        demand = json.loads(body["messages"][1]["content"])["demand"]
        if demand == "broken":
            return web.Response(status=500)
        return web.json_response({"choices": [{"message": {"content": f"Here: {demand}"}}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield ModelJudge(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", "judge", "a key"), heard
    await runner.cleanup()


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ("any", None),
        (Text(pattern=r"40\.00 EUR|other"), None),
        (Text(pattern=r"nothing like it"), "matches 'nothing like it' -> other"),
        (Text(judge='{"holds": true}'), None),
        (Text(judge='{"holds": false, "why": "too short"}'), "too short: other"),
        (Text(judge="broken"), "the judge gave no verdict: HTTPStatusError"),
        (Text(judge="yes"), "no verdict: it did not answer"),
        (Text(judge='{"holds": "yes"}'), "no verdict: it said neither true nor false"),
    ],
)
async def test_a_text_may_be_compared_by_pattern_or_by_a_model(
    judge: tuple[ModelJudge, list[Any]], expected: Any, words: str | None
) -> None:
    case = _changed(
        GIVEN, "turns", 0, "expect", to={"text": expected if isinstance(expected, str) else expected.model_dump()}
    )
    today = _changed(case, "turns", 0, "steps", 2, "text", to="other")
    found = await changes(case, Played(today, Seen(case)), judge[0])
    if words is None:
        assert found == []
    else:
        assert [change.kind for change in found] == [Kind.TEXT]
        assert words in str(found[0])
    if isinstance(expected, Text) and expected.judge is not None:
        assert [key for key, _ in judge[1]] == ["Bearer a key"]
        [unjudged] = await changes(case, Played(today, Seen(case)))
        assert "nobody judges it" in unjudged.now


def test_a_summary_says_what_changed_and_ci_reads_the_same() -> None:
    note = Change(Kind.PROMPT, "instructions", "be kind", "be rude", is_note=True)
    failing = Change(Kind.CALLS, "turn 1", "none", "refund\x00")
    outcomes = [
        Outcome("same", "a.yaml", 0.5, [note]),
        Outcome("changed", "b.yaml", 0.25, [failing, note], ["a note"]),
        Outcome("broken", "c.yaml", 0.25, error="no"),
        Outcome("strict", "d.yaml", 0, [note], is_strict=True),
    ]
    lines = Summary(outcomes).text().splitlines()
    assert [line.split()[0] for line in lines] == [
        *("same", "~", "CHANGED", "!", "~", ".", "error", "no", "CHANGED", "!", "replay:")
    ]
    assert lines[-1] == "replay: 1 of 4 cases go as they were recorded"

    root = Summary(outcomes).junit().getroot()
    assert root is not None
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "4",
        "failures": "2",
        "errors": "1",
    }
    failure = root.find(".//testcase[@name='changed']/failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("changed: tool calls", "turn 1: tool calls: none -> refund\ufffd")
