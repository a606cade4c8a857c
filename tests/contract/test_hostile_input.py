"""Whatever a client sends, the answer is a problem document that names the field, never a 500."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.support.client import Api, post_call, script
from tests.e2e.support.processes import AppHost, Sink

NUL = "a\u0000b"
HUGE = 10**400


def _cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(parts)).encode()).decode().rstrip("=")


def _assert_refused(response: httpx.Response, *fields: str, statuses: tuple[int, ...] = (400, 413, 422)) -> None:
    """A client's mistake, told as one, with the fields named."""
    assert response.status_code in statuses, f"{response.status_code} {response.text[:500]}"
    named = " ".join(error["field"] for error in response.json().get("errors", []))
    for field in fields:
        assert field in named, response.text


# Bodies. -----------------------------------------------------------------------------------------

NOT_JSON = [
    b"",
    b"{",
    b"{} trailing",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"NaN",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{",
    b'{"content": "\xff"}',
    b'{"content": "\\ud800"}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\x00",
]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
async def test_body_that_is_no_json_object_is_refused(api: Api, body: bytes) -> None:
    session_id = await api.session()
    for path in ("/api/v1/sessions", f"/api/v1/sessions/{session_id}/messages", "/api/v1/approvals/x/decision"):
        if not body and path == "/api/v1/sessions":
            continue  # a session needs no body
        _assert_refused(await api.post(path, content=body, headers={"content-type": "application/json"}))
    assert await api.messages(session_id) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"config": {"max_step": 1}}, "config.max_step"),
        ({"name": 1}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"id": "../x"}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"id": "a\n"}, "id"),
        ({"tags": "a"}, "tags"),
        ({"tags": ["a,b"]}, "tags.0"),
        ({"tags": [""]}, "tags.0"),
        ({"tags": ["a"] * 33}, "tags"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata"),
        ({"config": {"temperature": 3}}, "config.temperature"),
        ({"config": {"temperature": "nan"}}, "config.temperature"),
        ({"config": {"max_steps": 0}}, "config.max_steps"),
        ({"config": {"max_steps": 1.5}}, "config.max_steps"),
        ({"config": {"max_steps": HUGE}}, "config.max_steps"),
        ({"config": {"approval_timeout_seconds": -1}}, "config.approval_timeout_seconds"),
        ({"config": {"concurrency": "maybe"}}, "config.concurrency"),
        ({"config": {"model": "m" * 129}}, "config.model"),
        ({"config": {"max_turn_cost_usd": 0}}, "config.max_turn_cost_usd"),
        ({"config": {"max_session_cost_usd": HUGE}}, "config.max_session_cost_usd"),
        ({"config": {"reasoning_effort": "hard"}}, "config.reasoning_effort"),
        ({"agent_id": "no-such-agent"}, "agent_id"),
    ],
)
async def test_wrong_field_of_a_session_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    _assert_refused(await api.post("/api/v1/sessions", content=json.dumps(body)), field, statuses=(422,))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "VALIDATION_ERROR"),
        ({"content": None}, "VALIDATION_ERROR"),
        ({"content": 1}, "VALIDATION_ERROR"),
        ({"content": ["x"]}, "VALIDATION_ERROR"),
        ({"content": "x", "role": "system"}, "VALIDATION_ERROR"),
        ({"content": "x", "concurrency": "now"}, "VALIDATION_ERROR"),
        ({"content": "x", "approval_mode": "never"}, "VALIDATION_ERROR"),
        ({"content": "x", "author": "root"}, "VALIDATION_ERROR"),
        ({"content": "x", "output_schema": {"type": "array"}}, "VALIDATION_ERROR"),
        ({"content": ""}, "INVALID_MESSAGE"),
        ({"content": " \n\t "}, "INVALID_MESSAGE"),
        ({"content": NUL}, "INVALID_MESSAGE"),
        ({"content": "x", "attachment_ids": ["a"]}, "INVALID_MESSAGE"),
        ({"content": "x" * 500_000}, "MESSAGE_TOO_LONG"),
        ({"content": "x" * 3_000_000}, "MESSAGE_TOO_LONG"),
    ],
)
async def test_wrong_message_is_refused_and_not_stored(api: Api, body: dict[str, Any], code: str) -> None:
    session_id = await api.session()
    response = await api.post(f"/api/v1/sessions/{session_id}/messages", body)
    _assert_refused(response)
    assert response.json()["code"] == code
    assert await api.messages(session_id) == []


def _nested(levels: int) -> dict[str, Any]:
    """A schema of objects within objects."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def _holding(part: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": part}}


BAD_SCHEMAS: dict[str, Any] = {
    "text": "object",
    "list": [],
    "says nothing": {},
    "no object": {"type": "string"},
    "two types": {"type": ["object", "null"]},
    "no such type": _holding({"type": "nothing"}),
    "properties of a list": {"type": "object", "properties": []},
    "required of a number": {"type": "object", "required": 1},
    "negative count": {"type": "object", "minProperties": -1},
    "number beyond 64 bits": _holding({"const": HUGE}),
    "pattern that is none": _holding({"type": "string", "pattern": "("}),
    "pattern without end": _holding({"type": "string", "pattern": "(((a{1000}){1000}){1000}){1000}"}),
    "part of another server": _holding({"$ref": "http://127.0.0.1:1/schema.json"}),
    "part of the disk": _holding({"$ref": "file:///etc/passwd"}),
    "part that is not there": _holding({"$ref": "#/$defs/none"}),
    "NUL": _holding({"const": NUL}),
    "too deep": _nested(40),
    "as deep as JSON is read": _nested(90),
    "too large": _holding({"enum": ["x" * 70_000]}),
}


@pytest.mark.parametrize("schema", BAD_SCHEMAS.values(), ids=BAD_SCHEMAS)
async def test_schema_that_no_answer_can_be_held_to_is_refused_wherever_it_is_sent(api: Api, schema: Any) -> None:
    session_id = await api.session()
    config = {"config": {"output_schema": schema}}
    agent = {"name": "n", "instructions": "i", "defaults": {"output_schema": schema}}
    admin = api.as_user("root;admin")
    for client, method, path, body in (
        (api, "POST", "sessions", config),
        (api, "PATCH", f"sessions/{session_id}", config),
        (api, "POST", f"sessions/{session_id}/messages", {"content": "x", "output_schema": schema}),
        (api, "POST", "templates", {"name": "n", **config}),
        (admin, "PUT", "agents/schematic", agent),
    ):
        response = await client.request(method, f"/api/v1/{path}", content=json.dumps(body))
        _assert_refused(response, "output_schema", statuses=(422,))
        assert response.json()["code"] == "VALIDATION_ERROR"
    assert await api.messages(session_id) == []
    assert (await api.get(f"/api/v1/sessions/{session_id}")).json()["config"]["output_schema"] is None


ODD_SCHEMAS: dict[str, Any] = {
    "itself": {"type": "object", "allOf": [{"$ref": "#"}]},
    "in a ring": {"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                  "properties": {"x": {"$ref": "#/$defs/a"}}},
    "tree": {"type": "object", "properties": {"x": {"$ref": "#"}}, "anyOf": [{"$ref": "#/properties/x"}, {}]},
    "costly pattern": {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}},
    "never": {"type": "object", "not": {}},
    "true and false": {"type": "object", "properties": {"x": True, "y": False}},
    "unknown words": {"type": "object", "x-own": [1], "format": "nothing", "title": "\u202e\uffff"},
}  # fmt: skip


@pytest.mark.parametrize("schema", ODD_SCHEMAS.values(), ids=ODD_SCHEMAS)
async def test_odd_schema_is_refused_or_its_turn_comes_to_an_end(api: Api, schema: dict[str, Any]) -> None:
    session_id = await api.session()
    body = {"content": script(content=json.dumps({"x": "a" * 40 + "!"})), "output_schema": schema}
    posted = await api.post(f"/api/v1/sessions/{session_id}/messages", body)
    if posted.status_code != 202:
        _assert_refused(posted, "output_schema", statuses=(422,))
        return
    turn = await api.until(session_id, posted.json()["turn"]["id"])
    (answer,) = await api.messages(session_id, turn["id"], "assistant")
    held = {"completed": {"x": "a" * 40 + "!"}, "failed": None}
    assert answer["output"] == held[turn["status"]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"decision": "maybe"},
        {"decision": True},
        {"decision": "approve", "by": "root"},
        {"decision": "approve", "comment": "x" * 2001},
        {"decision": "approve", "comment": {}},
        {"decision": "approve", "arguments": "x"},
        {"decision": "approve", "arguments": {}},
        {"decision": "approve", "arguments": {"method": "POST", "url": "file:///etc/passwd"}},
        {"decision": "approve", "arguments": {"method": "POST", "url": "http://127.0.0.1/\u0000"}},
        {"decision": "approve", "arguments": {"method": "POST", "url": "http://127.0.0.1/", "body": NUL}},
        {"decision": "reject", "arguments": {"method": "GET", "url": "http://127.0.0.1/"}},
        {"decision": "approve", "comment": NUL},
    ],
)
async def test_wrong_decision_decides_nothing(api: Api, sink: Sink, body: dict[str, Any]) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/hostile"))]]))
    approval = await api.approval(session_id)
    response = await api.post(f"/api/v1/approvals/{approval['id']}/decision", body)
    _assert_refused(response, statuses=(422,))
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json() == approval
    await api.cancel(session_id, turn_id)


@pytest.mark.parametrize(
    "body",
    [
        {"name": NUL},
        {"metadata": {"k": NUL}},
        {"metadata": {NUL: 1}},
        {"tags": [NUL]},
        {"config": {"model": NUL}},
        {"agent_id": NUL},
        {"metadata": {"k": HUGE}},
        {"metadata": {"k": 1e308}},
        {"name": "\u202e\U0001f600\uffff"},
        {"metadata": {"": {"": []}}},
    ],
)
async def test_odd_text_is_kept_or_refused_but_never_breaks_anything(api: Api, body: dict[str, Any]) -> None:
    response = await api.post("/api/v1/sessions", content=json.dumps(body))
    if response.status_code == 201:
        sent = {name: value for name, value in body.items() if name != "config"}
        assert sent.items() <= response.json().items()
    else:
        _assert_refused(response, statuses=(422,))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"metadata": {"a": NaN}}', "metadata.a"),
        (b'{"metadata": {"a": [1, {"b": Infinity}]}}', "metadata.a.1.b"),
        (b'{"metadata": {"a": -Infinity}}', "metadata.a"),
        (b'{"metadata": {"a": 1e999}}', "metadata.a"),
        (b'{"metadata": {"a": 1, "b": {"c": 1, "\\u0063": 2}}}', "metadata.b.c"),
        (b'{"name": "a", "name": "b"}', "name"),
    ],
)
async def test_json_that_two_readers_could_read_differently_is_refused_and_the_place_named(
    api: Api, body: bytes, field: str
) -> None:
    refused = await api.post("/api/v1/sessions", content=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_body_that_is_cut_off_is_a_callers_mistake_and_no_error_of_ours(api: Api, parley: AppHost) -> None:
    """The caller is gone and reads nothing; the log must not blame the app for it."""
    session_id = await api.session()
    host, port = parley.base_url.removeprefix("http://").split(":")
    for path, kind in (
        ("/api/v1/sessions", "application/json"),
        (f"/api/v1/sessions/{session_id}/attachments", "multipart/form-data; boundary=x"),
    ):
        correlation_id = f"cut-{uuid4()}"
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n"
            f'x-correlation-id: {correlation_id}\r\n\r\n{{"name": '.encode()
        )
        await writer.drain()
        await asyncio.sleep(0.2)  # until the app waits for the rest
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0.3)
    assert (await api.get(f"/api/v1/sessions/{session_id}")).status_code == 200
    assert "ClientDisconnect" not in parley.log()
    assert not re.search(r"ERROR.*POST /api/v1/sessions", parley.log())


async def test_body_that_is_not_json_is_refused_whatever_it_says_it_is(api: Api) -> None:
    for content_type in ("application/json", "text/plain", "application/xml", "multipart/form-data; boundary=x"):
        response = await api.post("/api/v1/sessions", content=b"name=x", headers={"content-type": content_type})
        _assert_refused(response)
    gzipped = await api.post("/api/v1/sessions", content=b"\x1f\x8b\x08", headers={"content-encoding": "gzip"})
    _assert_refused(gzipped)


# Queries, headers, ids. --------------------------------------------------------------------------

QUERIES = [
    *[("limit", value) for value in ("0", "-1", "201", "x", "1.5", "9" * 40, "", "\u0663", "1e3", "\x00")],
    *[
        ("cursor", value)
        for value in (
            "x",
            "====",
            "\x00",
            "é",
            "A" * 5000,
            _cursor(),
            _cursor(1),
            _cursor(1, 2),
            _cursor(None, None),
            _cursor([], {}),
            _cursor("x", "y"),
            _cursor(True, "y"),
            _cursor(2**63, "y"),
            _cursor(-(2**70), "y"),
            _cursor(1e308, "y"),
            _cursor("2026-01-01T00:00:00", "y"),
            _cursor("2026-01-01T00:00:00Z", NUL),
            _cursor("0001-01-01T00:00:00+23:59", "y"),
            _cursor("9999-12-31T23:59:59-23:59", "y"),
            _cursor(253402300800, "y"),
            base64.urlsafe_b64encode(b"[" * 4000).decode(),
        )
    ],
]


@pytest.mark.parametrize(("name", "value"), QUERIES)
async def test_wrong_paging_is_refused_or_harmless(api: Api, name: str, value: str) -> None:
    session_id = await api.session()
    for path in (
        "/api/v1/sessions",
        "/api/v1/sessions?sort=updated_at",
        f"/api/v1/sessions/{session_id}/messages",
        "/api/v1/approvals",
        f"/api/v1/sessions/{session_id}/approvals",
        f"/api/v1/sessions/{session_id}/events",
    ):
        query = dict(httpx.URL(path).params) | {name: value}
        response = await api.get(path.partition("?")[0], params=query)
        if response.status_code != 200:
            _assert_refused(response, statuses=(422,))


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/v1/sessions", {"status": "DONE"}),
        ("/api/v1/sessions", {"sort": "id; DROP TABLE sessions"}),
        ("/api/v1/approvals", {"status": "open"}),
        ("approvals", {"status": "open"}),
        ("messages", {"role": "root"}),
        ("messages", {"order": "random"}),
        ("messages", {"from": "yesterday"}),
        ("messages", {"from": "2026-01-01T00:00:00"}),
        ("messages", {"to": "2026-13-01T00:00:00Z"}),
        ("events", {"after": "-1"}),
        ("events", {"after": "x"}),
        ("events", {"after": "9" * 30}),
        ("events", {"after": "1.0"}),
        ("events", {"after": "\u0663"}),
    ],
)
async def test_wrong_filter_is_named(api: Api, path: str, query: dict[str, str]) -> None:
    full = path if path.startswith("/") else f"/api/v1/sessions/{await api.session()}/{path}"
    _assert_refused(await api.get(full, params=query), next(iter(query)), statuses=(422,))


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/v1/sessions", {"q": NUL}),
        ("/api/v1/sessions", {"q": "%_\\"}),
        ("/api/v1/sessions", {"tag": NUL}),
        ("/api/v1/sessions", {"agent_id": NUL}),
        ("/api/v1/sessions", {"q": "x" * 5000}),
        ("/api/v1/approvals", {"session_id": NUL}),
        ("/api/v1/approvals", {"session_id": "x" * 5000}),
        ("/api/v1/approvals", {"tool": NUL}),
        ("approvals", {"turn_id": NUL}),
        ("approvals", {"tool": "x" * 5000}),
        ("messages", {"q": NUL}),
        ("messages", {"from": "0001-01-01T00:00:00+23:59"}),
        ("messages", {"to": "9999-12-31T23:59:59-23:59"}),
        ("messages", {"from": "253402300800"}),
        ("messages", {"from": "1e300"}),
    ],
)
async def test_odd_filter_finds_nothing_or_is_refused(api: Api, path: str, query: dict[str, str]) -> None:
    full = path if path.startswith("/") else f"/api/v1/sessions/{await api.session()}/{path}"
    response = await api.get(full, params=query)
    if response.status_code != 200:
        _assert_refused(response, statuses=(422,))
    else:
        assert response.json()["items"] == []


IDS = [
    "%00",
    "a%00b",
    "%2e%2e%2e",
    "..%2f..",
    "a%2fb",
    "%20",
    "a b",
    "é",
    "%ff",
    "x" * 65,
    "x" * 2000,
    "'",
    "*",
    "-",
    "~",
]


@pytest.mark.parametrize("bad", IDS)
async def test_id_that_cannot_be_one_is_not_found(api: Api, bad: str) -> None:
    own = await api.session()
    async with httpx.AsyncClient(base_url=api.base_url, headers=api.headers, trust_env=False) as client:
        for method, path in (
            ("GET", f"/api/v1/sessions/{bad}"),
            ("POST", f"/api/v1/sessions/{bad}/end"),
            ("GET", f"/api/v1/sessions/{bad}/events"),
            ("GET", f"/api/v1/sessions/{own}/messages/{bad}"),
            ("GET", f"/api/v1/sessions/{own}/turns/{bad}"),
            ("GET", f"/api/v1/sessions/{own}/turns/{bad}/stream"),
            ("POST", f"/api/v1/sessions/{own}/turns/{bad}/cancel"),
            ("GET", f"/api/v1/approvals/{bad}"),
            ("GET", f"/api/approve/{bad}"),
        ):
            response = await client.request(method, path)
            assert response.status_code in {400, 404}, f"{method} {path}: {response.status_code} {response.text}"


async def test_dots_in_a_path_are_taken_out_by_the_platform_and_open_nothing(api: Api) -> None:
    own, eve = await api.session(), api.as_user("eve")
    for caller, status in ((api, 200), (eve, 404)):
        async with httpx.AsyncClient(base_url=api.base_url, headers=caller.headers, trust_env=False) as client:
            assert (await client.get(f"/api/v1/sessions/{own}/messages/%2e%2e")).status_code == status
            assert (await client.get(f"/api/v1/sessions/{own}/messages/%2e%2e/%2e%2e/%2e%2e/x")).status_code == 404


@pytest.mark.parametrize("value", ["-1", "x", "1.0", "9" * 30, "\u00b2", "1 2"])
async def test_last_event_id_that_is_no_number_is_refused(api: Api, value: str) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tokens=1))
    headers = {"last-event-id": value.encode()}
    for path in (f"/api/v1/sessions/{session_id}/events", f"/api/v1/sessions/{session_id}/turns/{turn_id}/stream"):
        _assert_refused(await api.get(path, headers=headers), "after", statuses=(422,))


@pytest.mark.parametrize("key", ["", "x" * 256, "\u00e9\u0080"])
async def test_idempotency_key_that_is_none_is_refused(api: Api, key: str) -> None:
    session_id = await api.session()
    headers = {"idempotency-key": key.encode()}
    for path, body in (("/api/v1/sessions", {}), (f"/api/v1/sessions/{session_id}/messages", {"content": "x"})):
        _assert_refused(await api.post(path, body, headers=headers), "Idempotency-Key", statuses=(422,))
    assert await api.messages(session_id) == []


# Files. ------------------------------------------------------------------------------------------


def _form(*parts: bytes, end: bytes = b"--XX--\r\n") -> bytes:
    return b"".join(b"--XX\r\n" + part + b"\r\n" for part in parts) + end


_FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello'


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("multipart/form-data; boundary=XX", b"", "INVALID_MESSAGE"),
        ("multipart/form-data; boundary=XX", b"\x00" * 1000, "INVALID_MESSAGE"),
        ("multipart/form-data; boundary=XX", _form(_FILE, _FILE), "INVALID_MESSAGE"),
        ("multipart/form-data; boundary=XX", _form(_FILE, end=b""), "INVALID_MESSAGE"),
        ("multipart/form-data; boundary=XX", _form(_FILE.replace(b"hello", b"")), "VALIDATION_ERROR"),
        ("multipart/form-data; boundary=XX", _form(_FILE.replace(b"hello", b"PK\x03\x04")), "VALIDATION_ERROR"),
        ("multipart/form-data", _form(_FILE), "INVALID_MESSAGE"),
        ("application/json", b'{"file": "x"}', "INVALID_MESSAGE"),
        ("multipart/form-data; boundary=\xff", b"--\xff", "INVALID_MESSAGE"),
    ],
)
async def test_body_that_is_no_form_with_one_good_file_is_refused(
    api: Api, content_type: str, body: bytes, code: str
) -> None:
    session_id = await api.session()
    path = f"/api/v1/sessions/{session_id}/attachments"
    response = await api.post(path, content=body, headers={"content-type": content_type.encode("latin-1")})
    _assert_refused(response)
    assert response.json()["code"] == code
    assert (await api.get(path)).json()["items"] == []


async def test_file_beyond_the_limit_is_refused_however_it_is_sent(api: Api) -> None:
    session_id = await api.session()
    path = f"/api/v1/sessions/{session_id}/attachments"
    too_large = b"x" * (25 * 1024 * 1024 + 1)
    declared = await api.post(path, files={"file": ("big.txt", too_large)})
    assert (declared.status_code, declared.json()["code"]) == (413, "MESSAGE_TOO_LONG")
    assert (await api.get(path)).json()["items"] == []


@pytest.mark.parametrize(
    "name", ["a\u0000b.txt", "\u202egpj.exe", "../../x", "", "x" * 3000, 'a"; filename="b', "\u263a"]
)
async def test_any_name_is_kept_as_one_that_is_harmless(api: Api, name: str) -> None:
    session_id = await api.session()
    sent = await api.post(f"/api/v1/sessions/{session_id}/attachments", files={"file": (name, b"hello", "text/html")})
    assert sent.status_code in {201, 400}, sent.text
    if sent.status_code == 201:
        shown = sent.json()["name"]
        assert shown.isprintable()
        assert not set(shown) & set('/\\"<>')
        content = await api.get(f"/api/v1/attachments/{sent.json()['id']}/content")
        assert content.headers["content-type"].startswith("text/plain")


# Requests that another site makes a browser send. --------------------------------------------------

FOREIGN = [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "same-site"}]


@pytest.mark.parametrize("said", FOREIGN, ids=["fetch-metadata", "origin", "same-site"])
async def test_what_another_site_sends_unasked_changes_nothing(api: Api, said: dict[str, str]) -> None:
    session_id = await api.session()
    path = f"/api/v1/sessions/{session_id}"

    # What forms and scripts may send without a preflight; that it is valid JSON must not help it.
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        form = {"content-type": content_type, **said}
        _assert_refused(await api.post(f"{path}/messages", content=b'{"content": "forged"}', headers=form), "Origin")
    _assert_refused(await api.post(f"{path}/end", headers=said), "Origin")
    sent = await api.post(f"{path}/attachments", files={"file": ("a.txt", b"forged")}, headers=said)
    _assert_refused(sent, "Origin")

    assert (await api.get(path)).json()["status"] == "CREATED"
    assert await api.messages(session_id) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "content-type": "application/json; charset=utf-8"},
        {"sec-fetch-site": "cross-site", "x-requested-with": "app"},
        {"sec-fetch-site": "same-origin", "content-type": "text/plain"},
        {"content-type": "text/plain"},
    ],
    ids=["json", "own-header", "same-origin", "no-browser"],
)
async def test_what_a_browser_asked_leave_for_is_taken(api: Api, headers: dict[str, str]) -> None:
    session_id = await api.session()

    sent = await api.post(f"/api/v1/sessions/{session_id}/activate", content=b"{}", headers=headers)

    assert (sent.status_code, sent.json()["status"]) == (200, "ACTIVE")
