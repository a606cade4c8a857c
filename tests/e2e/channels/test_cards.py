"""Cards for approvers: an approval told in Teams, Slack and a mail, whose link only a person's decision follows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import default
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller

from tests.e2e.support.client import Api, eventually, open_api, post_call, script, sweep
from tests.e2e.support.processes import AppHost, Received, Sink, free_port, running_host
from tests.e2e.support.stack import own_environment, own_stores
from tests.support.cards import slack_faults

TEAMS, SLACK = "/teams/secret-of-teams", "/slack/secret-of-slack"


class Inbox:
    """What the mail server took."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope.content)
        return "250 OK"

    def about(self, approval_id: str) -> list[str]:
        """The texts of mails about an approval."""
        mails = [message_from_bytes(mail, policy=default) for mail in self.mails]
        found = [mail.get_body(("plain",)) for mail in mails if approval_id in mail["Message-ID"]]
        return [part.get_content() for part in found if part is not None]


@dataclass(frozen=True, slots=True)
class Told:
    """A host that tells approvers everywhere."""

    host: AppHost
    sink: Sink
    inbox: Inbox

    def at(self, path: str, about: str) -> list[Received]:
        """Requests that hold this text, which is in the call's arguments."""
        return [request for request in self.sink.at(path) if about.encode() in request.body]

    async def everywhere(self, about: str, approval_id: str) -> tuple[Received, Received, str]:
        async def look() -> bool:
            await sweep(self.host)
            chats = all(self.at(path, about) for path in (TEAMS, SLACK))
            return chats and bool(self.inbox.about(approval_id))

        await eventually(look, "a card everywhere")
        (in_teams,), (in_slack,) = self.at(TEAMS, about), self.at(SLACK, about)
        (mail,) = self.inbox.about(approval_id)
        return in_teams, in_slack, mail


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[Told]:
    inbox = Inbox()
    mail = Controller(inbox, hostname="127.0.0.1", port=free_port())
    mail.start()
    try:
        with own_stores() as stores:
            settings = {
                "TEAMS_WEBHOOK_URL": sink.url(TEAMS),
                "SLACK_WEBHOOK_URL": sink.url(SLACK),
                "SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
                "MAIL_FROM": "parley@example.com",
                "MAIL_TO": "ann@example.com, bob@example.com",
            }
            environment = own_environment(stores, model_url, sink) | settings
            with running_host(tmp_path_factory.mktemp("cards"), environment) as host:
                yield Told(host, sink, inbox)
    finally:
        mail.stop()


@pytest.fixture
async def own(told: Told) -> AsyncIterator[Api]:
    client = await open_api(told.host)
    yield client
    await client.aclose()


async def test_a_card_in_each_channel_leads_to_the_page_that_decides(told: Told, own: Api) -> None:
    session_id = await own.session()
    turn_id = await own.say(
        session_id, script(tool_calls=[[post_call(told.sink.url("/carded"), '{"<!channel>": 1}')]], content="done")
    )
    approval = await own.approval(session_id)
    in_teams, in_slack, mail = await told.everywhere("/carded", approval["id"])
    (attachment,) = in_teams.json()["attachments"]  # type: ignore[misc]
    (action,) = attachment["content"]["actions"]  # type: ignore[index]
    message = in_slack.json()
    assert slack_faults(message) == []
    button = message["blocks"][-1]["elements"][0]  # type: ignore[index]
    link = action["url"]
    assert link.startswith(f"{told.host.base_url}/api/approve/")
    assert (button["url"], f"Open the approval: {link}" in mail) == (link, True)
    for text in (in_teams.body.decode(), in_slack.body.decode(), mail):
        assert "http_request" in text
        assert "/carded" in text
        assert "The question" in text
        assert session_id not in text, "a session is told by its name"
    assert await _decided(told, link) == 200
    assert (await own.until(session_id, turn_id))["status"] == "completed"
    assert len(told.sink.at("/carded")) == 1
    lines = (await own.get(f"/api/v1/sessions/{session_id}/audit")).json()
    assert lines["verified"]
    channels = [line["details"]["channel"] for line in lines["items"] if line["action"] == "approval.notified"]
    assert sorted(channels) == ["email", "slack", "teams"]
    await sweep(told.host)
    assert len(told.at(SLACK, "/carded")) == 1, "told once"
    assert [secret for secret in ("secret-of-", "ann@example.com") if secret in told.host.log()] == []


async def test_a_policy_chooses_the_channels(told: Told, own: Api) -> None:
    session_id = await own.session_under(channels=["slack"])
    turn_id = await own.say(session_id, script(tool_calls=[[post_call(told.sink.url("/chosen"))]], content="done"))
    approval = await own.approval(session_id)

    async def look() -> bool:
        await sweep(told.host)
        return bool(told.at(SLACK, "/chosen"))

    await eventually(look, "the card in Slack")
    assert (told.at(TEAMS, "/chosen"), told.inbox.about(approval["id"])) == ([], [])
    await own.cancel(session_id, turn_id)


SCANNERS = (
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Slack-ImgProxy (+https://api.slack.com/robots)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 bingbot/2.0 BingPreview/1.0b",
    "Mozilla/5.0 (compatible; MSAL/1.0; Microsoft Outlook SafeLinks)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36",  # sandboxes say so
)


async def test_previews_and_scanners_of_links_decide_nothing(told: Told, own: Api) -> None:
    session_id = await own.session()
    turn_id = await own.say(session_id, script(tool_calls=[[post_call(told.sink.url("/scanned"))]], content="done"))
    approval = await own.approval(session_id)
    _, _, mail = await told.everywhere("/scanned", approval["id"])
    found = re.search(r"http://\S+/api/approve/\S+", mail)
    assert found is not None
    link = found[0]

    async def scan(agent: str, method: str) -> int:
        headers = {"user-agent": agent, "x-purpose": "preview", "sec-purpose": "prefetch"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, follow_redirects=True) as client:
            return (await client.request(method, link)).status_code

    statuses = await asyncio.gather(*(scan(agent, how) for agent in SCANNERS for how in ("GET", "HEAD") * 2))
    assert all(status < 500 for status in statuses)
    assert (await own.get(f"/api/v1/approvals/{approval['id']}")).json() == approval
    assert (await own.turn(session_id, turn_id))["status"] == "waiting_approval"
    assert told.sink.at("/scanned") == []
    assert await _decided(told, link) == 200, "and the link still works"
    assert (await own.until(session_id, turn_id))["status"] == "completed"


async def test_a_chat_that_is_down_is_told_later_and_holds_up_nobody(
    told: Told, own: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told.sink, "status_of", lambda request: 503 if request.path == SLACK else 200)
    session_id = await own.session()
    turn_id = await own.say(session_id, script(tool_calls=[[post_call(told.sink.url("/later"))]], content="done"))
    approval = await own.approval(session_id)

    async def tried() -> bool:
        await sweep(told.host)
        return bool(told.at(SLACK, "/later")) and bool(told.inbox.about(approval["id"]))

    await eventually(tried, "the first try")
    monkeypatch.undo()

    async def again() -> bool:
        await sweep(told.host)
        return len(told.at(SLACK, "/later")) == 2

    await eventually(again, "the second try, five seconds later")
    assert told.host.logs("slack: requested of approval")
    await own.cancel(session_id, turn_id)


async def _decided(told: Told, link: str) -> int:
    headers = {"x-dev-user": "olga;approver"}
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        return (await client.post(link, data={"decision": "approve"})).status_code
