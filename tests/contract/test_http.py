"""What any HTTP client counts on: HEAD, 405 with `Allow`, conditional reads, and headers for pages of other origins."""

from __future__ import annotations

import httpx
import pytest

from shared.errors import ErrorCode
from tests.contract.wire import WireContract
from tests.e2e.support.client import Api, script
from tests.e2e.support.processes import AppHost

NOBODY = "0190aaaa-0000-7000-8000-000000000000"
_FILLED = {"user_id": "olga", "name": "travel", "branch": "0", "token": "none"}


@pytest.fixture
def plain(parley: AppHost) -> httpx.Client:
    """A client that knows nothing of the document."""
    headers = {"x-dev-user": "olga;approver,admin"}
    return httpx.Client(base_url=parley.base_url, headers=headers, timeout=60, trust_env=False)


def _url(path: str) -> str:
    for name in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
        path = path.replace(f"{{{name}}}", _FILLED.get(name, NOBODY))
    return path


def test_a_method_that_a_path_does_not_have_is_answered_with_those_it_has(
    contract: WireContract, plain: httpx.Client
) -> None:
    for path, methods in contract.document["paths"].items():
        if path.endswith("/negotiate"):
            continue  # the binding would make a connection for whoever asks
        has = {method.upper() for method in methods} | ({"HEAD"} if "get" in methods else set())
        for method in {"HEAD", "GET", "POST", "PUT", "PATCH", "DELETE"} - has:
            answer = plain.request(method, _url(path))
            assert answer.status_code == 405, f"{method} {path}"
            assert set(answer.headers["allow"].split(", ")) == has, f"{method} {path}"
            assert answer.headers["x-correlation-id"]


def test_head_is_answered_where_get_is_without_a_body(contract: WireContract, plain: httpx.Client) -> None:
    for path, methods in contract.document["paths"].items():
        if "get" in methods and "/stream" not in path:
            whole, head = plain.get(_url(path)), plain.head(_url(path))
            assert (head.status_code, head.content) == (whole.status_code, b""), path
            assert head.headers.get("content-type") == whole.headers.get("content-type"), path


def test_head_of_a_stream_ends_at_once(plain: httpx.Client) -> None:
    session_id = plain.post("/api/v1/sessions", json={}).json()["id"]
    head = plain.head(f"/api/v1/sessions/{session_id}/events", headers={"accept": "text/event-stream"})
    assert (head.status_code, head.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    # None of them counts as open: there are more than a user may have.
    for _ in range(40):
        assert plain.head(str(head.url), headers={"accept": "text/event-stream"}).status_code == 200


async def test_who_has_the_current_version_is_not_sent_it_again(api: Api) -> None:
    session_id = await api.session()
    path = f"/api/v1/sessions/{session_id}"
    etag = (await api.get(path)).headers["etag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = await api.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag), known
    await api.request("PATCH", path, json={"name": "Changed"})
    assert (await api.get(path, headers={"if-none-match": etag})).status_code == 200
    assert (await api.get(path, headers={"if-none-match": etag.strip('"')})).status_code == 200


async def test_a_page_of_another_origin_may_read_what_tells_it_how_to_go_on(api: Api) -> None:
    elsewhere = {"origin": "http://localhost:5173"}
    told = await api.post("/api/v1/sessions", {}, headers=elsewhere)
    exposed = set(told.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"ETag", "Location", "Retry-After", "RateLimit", "RateLimit-Policy", "x-correlation-id"}
    assert "access-control-expose-headers" not in (await api.get("/api/v1/me")).headers


async def test_an_event_source_that_returns_after_the_end_is_told_not_to(api: Api) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tokens=3))
    await api.until(session_id, turn_id)
    events = await api.turn_stream(session_id, turn_id)
    path = f"/api/v1/sessions/{session_id}/turns/{turn_id}/stream"
    before, end = events[-2], events[-1]

    assert (end.event, end.data["status"]) == ("end", "completed")
    assert (await api.get(path, headers={"last-event-id": str(end.id)})).status_code == 204
    again = await api.get(path, headers={"last-event-id": str(before.id)})
    assert (again.status_code, again.text.count("event: ")) == (200, 1)


async def test_a_failed_turn_is_told_under_a_name_that_no_event_source_uses_itself(api: Api) -> None:
    session_id = await api.session()
    turn_id = await api.say(
        session_id, script(key=f"{session_id}-refused", fail=[{"status": 400, "message": "no"}] * 10)
    )
    turn = await api.until(session_id, turn_id)
    names = [event.event for event in await api.turn_stream(session_id, turn_id)]
    assert turn["error"]["code"] == ErrorCode.LLM_ERROR
    assert "error" not in names
    assert names[-2:] == ["error.occurred", "end"]
