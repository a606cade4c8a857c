from __future__ import annotations

import pytest

from devhost.model.conversation import OfferedTool
from devhost.model.demo.choose import forced_call, ids_in, plan_calls

TEXT = {"type": "string"}
CALCULATE = OfferedTool("sums", "", {"type": "object", "properties": {"expression": TEXT}, "required": ["expression"]})
CLOCK = OfferedTool("clock", "", {"type": "object", "properties": {"timezone": TEXT}})
HTTP = OfferedTool(
    "send",
    "",
    {
        "type": "object",
        "properties": {"method": TEXT, "url": TEXT, "body": {"anyOf": [TEXT, {"type": "null"}]}},
        "required": ["method", "url"],
    },
)
FETCH = OfferedTool("fetch", "", {"type": "object", "properties": {"url": TEXT}, "required": ["url"]})
TOOLS = (CALCULATE, CLOCK, HTTP)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("what is 17 * 23", [("sums", {"expression": "17 * 23"})]),
        ("What is 17 times 23?", [("sums", {"expression": "17 * 23"})]),
        ("2 + 2 = ?", [("sums", {"expression": "2 + 2"})]),
        ("compute sqrt(2) + (3^2), please", [("sums", {"expression": "sqrt(2) + (3^2)"})]),
        ("(1+2", [("sums", {"expression": "1+2"})]),
        ("what time is it in Tokyo", [("clock", {"timezone": "Asia/Tokyo"})]),
        ("the time in San Francisco right now?", [("clock", {"timezone": "America/Los_Angeles"})]),
        ("what time is it in Europe/Prague", [("clock", {"timezone": "Europe/Prague"})]),
        ("what time is it", [("clock", {"timezone": "UTC"})]),
        ("what time is it in Atlantis", [("clock", {"timezone": "Atlantis"})]),
        (
            'POST {"a": [1, 2]} to http://127.0.0.1:9/x.',
            [("send", {"url": "http://127.0.0.1:9/x", "method": "POST", "body": '{"a": [1, 2]}'})],
        ),
        (
            'PUT to http://localhost:9/n with {"h": "ž"}',
            [("send", {"url": "http://localhost:9/n", "method": "PUT", "body": '{"h": "ž"}'})],
        ),
        (
            "DELETE http://localhost:9/items/17",
            [("send", {"url": "http://localhost:9/items/17", "method": "DELETE"})],
        ),
        ('use sums with {"expression": "1"}', [("sums", {"expression": "1"})]),
    ],
)
def test_a_wish_becomes_a_call_of_the_tool_whose_schema_fits(text: str, calls: list[object]) -> None:
    plan = plan_calls(text, TOOLS)
    assert [(call.name, dict(call.arguments)) for call in plan.calls] == calls
    assert plan.unmet == ()


FORMATS = {"enum": ["json", "md", "html", "csv", "pdf", "docx"], "type": "string"}
MAKE = OfferedTool(
    "make",
    "",
    {
        "type": "object",
        "properties": {"format": FORMATS, "content": TEXT, "name": {"anyOf": [TEXT, {"type": "null"}]}},
        "required": ["format", "content"],
    },
)
READ = OfferedTool(
    "look", "", {"type": "object", "properties": {"attachment_id": TEXT, "start": {}}, "required": ["attachment_id"]}
)
OLD, NEW = "0190aaaa-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-000000000002"


@pytest.mark.parametrize(
    ("text", "kind", "content"),
    [
        ("make a pdf with # Hello, 2 + 2", "pdf", "# Hello, 2 + 2"),
        ("Create a Word document that says “good morning”", "docx", "good morning"),
        ("please generate me a nice csv of a,b\n1,2", "csv", "a,b\n1,2"),
        ("save this as markdown: what time is it in Tokyo", "md", "what time is it in Tokyo"),
    ],
)
def test_content_becomes_a_file_of_the_named_format(text: str, kind: str, content: str) -> None:
    (call,) = plan_calls(text, (*TOOLS, MAKE, READ)).calls
    assert (call.name, call.arguments) == ("make", {"format": kind, "content": content})


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("what is in the attached file?", NEW),
        ("Summarise the document", NEW),
        (f"read attachment {OLD}, please", OLD),
    ],
)
def test_attachment_that_is_meant_is_read(text: str, meant: str) -> None:
    (call,) = plan_calls(text, (*TOOLS, MAKE, READ), ids=[OLD, NEW]).calls
    assert (call.name, call.arguments) == ("look", {"attachment_id": meant})


def test_nothing_is_read_or_made_of_what_is_not_there() -> None:
    assert plan_calls("what is in the attached file?", (READ,)).calls == ()
    assert plan_calls("make a pdf, please", (MAKE,)).calls == ()
    assert plan_calls("what is in the file", TOOLS, ids=[NEW]).unmet == ("a tool that reads attachments",)
    assert plan_calls("make a pdf with x", TOOLS).unmet == ("a tool that can make pdf files",)


def test_ids_are_taken_from_json_in_the_conversation() -> None:
    assert ids_in(f'[data] {{"attachments":[{{"id":"{OLD}","name":"a"}},{{"id": "{NEW}"}}]}} {NEW}') == [OLD, NEW]


def test_several_wishes_become_parallel_calls_in_the_order_of_the_words() -> None:
    text = "what time is it in Tokyo and New York, what is 6*7, and GET http://localhost:9/a?"
    plan = plan_calls(text, TOOLS)
    assert [call.name for call in plan.calls] == ["clock", "clock", "sums", "send"]
    assert plan.calls[1].arguments == {"timezone": "America/New_York"}


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "it is 2026-11-22 and I have 3 cats",
        "we were 10-12 people",
        "call 555-1234",
        "The agent helper-01a231c8-7305-7844-9210-123456789012 has answered.",
        "no time to lose in this",
        "see http://example.com/17*23",
    ],
)
def test_ordinary_words_call_nothing(text: str) -> None:
    assert plan_calls(text, TOOLS).calls == ()


def test_a_wish_without_a_fitting_tool_is_reported_and_not_called() -> None:
    plan = plan_calls("what is 2*3, and the time in Tokyo, and POST {} to http://h/", [FETCH])
    assert plan.calls == ()
    assert len(plan.unmet) == 3


def test_a_pasted_book_of_numbers_is_read_only_at_its_beginning() -> None:
    plan = plan_calls("what is 1 + 2? " + "7 8 (" * 100_000, TOOLS)
    assert plan.calls[0].arguments == {"expression": "1 + 2"}


def test_get_prefers_the_tool_that_can_only_read() -> None:
    assert plan_calls("GET http://h/", (HTTP, FETCH)).calls[0].name == "fetch"
    assert plan_calls("POST http://h/", (HTTP, FETCH)).calls[0].name == "send"


def test_an_object_body_is_kept_where_the_schema_takes_an_object() -> None:
    schema = {
        "type": "object",
        "properties": {"method": TEXT, "url": TEXT, "json": {"type": "object"}},
    }
    plan = plan_calls('POST {"a": 1} to http://h/', [OfferedTool("send", "", schema)])
    assert plan.calls[0].arguments["json"] == {"a": 1}


def test_a_forced_tool_gets_values_of_the_types_it_requires() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "kind": {"enum": ["a", "b"]}, "q": TEXT},
        "required": ["n", "kind", "q"],
    }
    call = forced_call("find it", OfferedTool("search", "", schema))
    assert call.arguments == {"n": 1, "kind": "a", "q": "find it"}
