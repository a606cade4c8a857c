"""The approver's link: looking changes nothing, clicking decides once, and no other link is one of ours."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from shared.signing import ApprovalLinks
from tests.e2e.support.client import Api, Json, eventually, post_call, script
from tests.e2e.support.processes import LINK_SECRET, OTHER_NAME, AppHost, Sink

LATER = "After the tool."


async def _asked(api: Api, host: AppHost, url: str, **config: int) -> tuple[str, str, Json, str]:
    """Session, turn, approval, and the path of its printed link."""
    session_id = await api.session(**config)
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(url)]], content=LATER))
    approval = await api.approval(session_id)
    links = ApprovalLinks(LINK_SECRET, host.base_url)

    async def printed() -> str | None:
        for link in reversed(host.approve_links()):
            token = link.rpartition("/")[2]
            if links.approval_id(token, now=datetime.fromtimestamp(0, UTC)) == approval["id"]:
                return urlsplit(link).path
        return None

    return session_id, turn_id, approval, await eventually(printed, "the link in the log")


def _assert_page(response: httpx.Response, status: int, *texts: str) -> None:
    """A readable page that no script, frame or foreign resource can get into."""
    assert (response.status_code, response.headers["content-type"]) == (status, "text/html; charset=utf-8")
    for text in texts:
        assert text in response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["cache-control"] == "no-store"
    # The address holds the token: no other site may be told it, and the page leads to none.
    assert (response.headers["referrer-policy"], response.headers["x-content-type-options"]) == (
        "same-origin",
        "nosniff",
    )
    assert "<script" not in response.text
    assert "<a " not in response.text


async def test_link_fetched_any_number_of_times_changes_nothing(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id, turn_id, approval, link = await _asked(api, parley, sink.url("/link-get"))
    before = await api.events(session_id)
    for _ in range(5):
        _assert_page(await api.get(link), 200, "Allow http_request?", sink.url("/link-get"))
    # What mail scanners do besides: other people's eyes, HEAD, other methods.
    _assert_page(await api.as_user("scanner;approver").get(link), 200)
    async with httpx.AsyncClient(base_url=api.base_url, trust_env=False) as scanner:
        assert (await scanner.head(link)).status_code in {200, 404, 405}
        for method in ("PUT", "DELETE", "OPTIONS"):
            assert (await scanner.request(method, link)).status_code in {204, 404, 405}
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json() == approval
    assert await api.events(session_id) == before
    assert (await api.turn(session_id, turn_id))["status"] == "waiting_approval"
    assert sink.at("/link-get") == []
    await api.cancel(session_id, turn_id)


async def test_click_approves_and_a_second_click_reports_the_first_decision(
    api: Api, parley: AppHost, sink: Sink
) -> None:
    session_id, turn_id, approval, link = await _asked(api, parley, sink.url("/link-approve"))
    petr = api.as_user("petr;approver")
    _assert_page(await petr.post(link, data={"decision": "approve", "comment": "ok"}), 200, "Approved", "goes on now")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    stands = (await api.get(f"/api/v1/approvals/{approval['id']}")).json()
    assert (stands["status"], stands["decided_by"], stands["comment"]) == ("approved", "petr", "ok")
    _assert_page(await api.post(link, data={"decision": "approve"}), 200, "Approved", "petr decided")
    _assert_page(await api.post(link, data={"decision": "reject"}), 409, "Already decided", "petr")
    _assert_page(await api.get(link), 200, "Approved", "petr decided")
    # The same through the API: one decision, whichever way it came.
    assert (await api.decide(approval["id"], "approve")).status_code == 200
    assert (await api.decide(approval["id"], "reject")).status_code == 409
    assert len(sink.at("/link-approve")) == 1


async def test_click_rejects_after_which_the_api_cannot_approve(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id, turn_id, approval, link = await _asked(api, parley, sink.url("/link-reject"))
    _assert_page(await api.post(link, data={"decision": "reject"}), 200, "Rejected", "will not run")
    assert (await api.decide(approval["id"], "approve")).status_code == 409
    assert (await api.until(session_id, turn_id))["tool_calls"][0]["status"] == "rejected"
    assert sink.at("/link-reject") == []


async def test_expired_link_is_a_page_that_says_so(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id, turn_id, _, link = await _asked(api, parley, sink.url("/link-late"), approval_timeout_seconds=1)
    await api.until(session_id, turn_id)
    _assert_page(await api.get(link), 410, "Too late")
    _assert_page(await api.post(link, data={"decision": "approve"}), 410, "Too late")
    assert sink.at("/link-late") == []


async def test_tampered_or_foreign_links_are_not_found(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id, turn_id, approval, link = await _asked(api, parley, sink.url("/link-forged"))
    token = link.rpartition("/")[2]
    head, claims, signature = token.split(".")
    later = datetime.now(UTC) + timedelta(days=2)  # not the link's own second
    other_claims = ApprovalLinks("another secret" * 4, "").token(approval["id"], expires_at=later).split(".")[1]
    forged = {
        "signature cut": f"{head}.{claims}.{signature[:-4]}",
        "signature missing": f"{head}.{claims}.",
        "claims of another token": f"{head}.{other_claims}.{signature}",
        "another secret": ApprovalLinks("another secret" * 4, "").token(approval["id"], expires_at=later),
        "no algorithm": f"eyJhbGciOiJub25lIn0.{claims}.",
        "only the id": approval["id"],
        "nonsense": "x",
        "unknown approval": ApprovalLinks(LINK_SECRET, "").token("nobody", expires_at=later),
        "impossible id": ApprovalLinks(LINK_SECRET, "").token("../../etc", expires_at=later),
        "long": "a" * 2000,
    }
    for name, text in forged.items():
        for response in (
            await api.get(f"/api/approve/{text}"),
            await api.post(f"/api/approve/{text}", data={"decision": "approve"}),
        ):
            assert response.status_code == 404, name
            _assert_page(response, 404)
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"] == "pending"
    await api.cancel(session_id, turn_id)


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"decision=",
        b"decision=maybe",
        b"decision=reject&decision=approve",
        b"decision=approve&decision=approve",
        b"decision=reject&comment=a&comment=b",
        b"comment=x",
        b"\xff\xfe",
        b"decision=approve" + b"&a=1" * 20,
        b"x" * 20_000,
    ],
)
async def test_form_that_is_no_decision_decides_nothing(api: Api, parley: AppHost, sink: Sink, form: bytes) -> None:
    session_id, turn_id, approval, link = await _asked(api, parley, sink.url("/link-form"))
    headers = {"content-type": "application/x-www-form-urlencoded"}
    _assert_page(await api.post(link, content=form, headers=headers), 400)
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"] == "pending"
    await api.cancel(session_id, turn_id)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "{own}"},
        {"sec-fetch-site": "cross-site", "origin": "{own}"},
        {"origin": "https://evil.test"},
        {"origin": "{own}.evil.test"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "null", "x-forwarded-host": ""},
        {"origin": "https://evil.test", "host": OTHER_NAME},
        # The host overwrites what a caller says in it, as Azure's does.
        {"origin": f"https://{OTHER_NAME}", "x-forwarded-host": OTHER_NAME},
    ],
    ids=str,
)
async def test_form_of_another_site_decides_nothing(
    api: Api, parley: AppHost, sink: Sink, headers: dict[str, str]
) -> None:
    """The browser adds the approver's cookies to it, so only the browser's word for where it comes from is left."""
    approval, link = await _shared_question(api, parley, sink)
    sent = {name: value.replace("{own}", api.base_url) for name, value in headers.items()}
    response = await api.post(link, data={"decision": "approve"}, headers=sent)
    _assert_page(response, 403, "another site")
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json() == approval


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin", "origin": "{own}"},
        {"sec-fetch-site": "none"},
        {"origin": "{own}"},
        {},
        {"origin": f"https://{OTHER_NAME}", "host": OTHER_NAME},
    ],
    ids=str,
)
async def test_form_of_our_own_page_is_taken(api: Api, parley: AppHost, sink: Sink, headers: dict[str, str]) -> None:
    approval, link = await _shared_question(api, parley, sink)
    sent = {name: value.replace("{own}", api.base_url) for name, value in headers.items()}
    # Taken far enough to be found no decision.
    _assert_page(await api.post(link, data={"decision": "maybe"}, headers=sent), 400)
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json() == approval


async def _shared_question(api: Api, parley: AppHost, sink: Sink) -> tuple[Json, str]:
    """One approval that stays open, for tests that must not decide it: (approval, path of its link)."""
    key = sink.url("/link-shared")
    if key not in _QUESTIONS:
        _, _, approval, link = await _asked(api, parley, key)
        _QUESTIONS[key] = (approval, link)
    return _QUESTIONS[key]


_QUESTIONS: dict[str, tuple[Json, str]] = {}


async def test_page_takes_changed_arguments_and_refuses_what_is_none(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id, turn_id, approval, link = await _asked(api, parley, sink.url("/link-asked"))
    _assert_page(await api.get(link), 200, "Approve with other arguments", "&quot;method&quot;: &quot;POST&quot;")
    for text in ("[]", "{", "1", '{"a":' * 2000, '{"method": "POST"}', "{}"):
        _assert_page(await api.post(link, data={"decision": "approve", "arguments": text}), 422)
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json() == approval
    changed = {"method": "POST", "url": sink.url("/link-changed"), "body": '{"ž": 1}'}
    _assert_page(await api.post(link, data={"decision": "approve", "arguments": json.dumps(changed)}), 200, "Approved")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert [request.body.decode() for request in sink.at("/link-changed")] == ['{"ž": 1}']
    assert sink.at("/link-asked") == []


async def test_page_shows_and_offers_what_the_policy_allows(api: Api, sink: Sink) -> None:
    session_id = await api.session_under(
        quorum=2, forbid_self_approval=True, allow_changes=False, allow_for_session=True
    )
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/link-policy"))]], content=LATER))
    approval = await api.approval(session_id)
    expires_at = datetime.fromisoformat(approval["expires_at"])
    link = urlsplit(ApprovalLinks(LINK_SECRET, "http://x").url(approval["id"], expires_at=expires_at)).path
    petr, zoe = api.as_user("petr;approver"), api.as_user("zoe;approver")

    own = await api.get(link)
    _assert_page(own, 200, "somebody else has to approve it", 'value="reject"')
    assert 'value="approve"' not in own.text
    _assert_page(await api.post(link, data={"decision": "approve"}), 409, "Not by you")
    page = await petr.get(link)
    _assert_page(page, 200, "2 people must approve", "not by who asked", 'name="for_session"', 'value="approve"')
    assert 'name="arguments"' not in page.text
    bound = f"by the agent {approval['agent_id']}, version {approval['agent_version']}, in turns of olga"
    _assert_page(page, 200, "later calls of http_request in this session", bound)
    changed = json.dumps({**approval["arguments"], "body": "[]"})
    _assert_page(await petr.post(link, data={"decision": "approve", "arguments": changed}), 422, "changed arguments")
    said = {"decision": "approve", "comment": "<b>fine", "for_session": "true"}
    _assert_page(await petr.post(link, data=said), 200, "Your vote counts", "1 of 2")
    _assert_page(await petr.get(link), 200, "You voted approve already")
    _assert_page(await zoe.get(link), 200, "1 of 2", "petr", "&lt;b&gt;fine")
    assert (await api.turn(session_id, turn_id))["status"] == "waiting_approval"
    _assert_page(await zoe.post(link, data={"decision": "approve"}), 200, "Approved", "goes on now")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    stands = (await api.get(f"/api/v1/approvals/{approval['id']}")).json()
    assert (stands["for_session"], len(sink.at("/link-policy"))) == (False, 1), "only one of the two said so"


async def test_link_does_not_say_who_decides(api: Api, parley: AppHost, sink: Sink) -> None:
    """Who only has the link, but not the role, sees nothing of it; the session's owner may look, not decide."""
    session_id, turn_id, approval, link = await _asked(api, parley, sink.url("/link-who"))
    stranger, owner = api.as_user("eve"), api.as_user("olga")
    _assert_page(await stranger.get(link), 404)
    _assert_page(await stranger.post(link, data={"decision": "approve"}), 404)
    page = await owner.get(link)
    _assert_page(page, 200, "approver role")
    assert "<button" not in page.text
    _assert_page(await owner.post(link, data={"decision": "approve"}), 404)
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"] == "pending"
    await api.cancel(session_id, turn_id)
    _assert_page(await api.get(link), 200, "Cancelled")
    _assert_page(await api.post(link, data={"decision": "approve"}), 409)


async def test_arguments_are_shown_as_text_never_as_markup(api: Api, parley: AppHost, sink: Sink) -> None:
    hostile = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>&amp; \u200b\U000e0041"
    session_id = await api.session()
    message = script(tool_calls=[[post_call(sink.url("/markup"), body=hostile)]], content=LATER)
    turn_id = await api.say(session_id, message)
    approval = await api.approval(session_id)
    link = ApprovalLinks(LINK_SECRET, "").url(approval["id"], expires_at=datetime.fromisoformat(approval["expires_at"]))
    page = await api.get(link)
    _assert_page(page, 200, "&lt;script&gt;alert(1)")
    assert not re.search(r"<(script|img)\b", page.text)
    assert r"\u200b\udb40\udc41" in page.text, "what shows nothing is shown"
    await api.cancel(session_id, turn_id)
