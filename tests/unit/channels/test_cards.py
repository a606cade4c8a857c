"""What a card says, and that it stays plain text in Slack, Teams and a mail, whatever its arguments are."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from typing import Any, cast

import orjson
import pytest

from shared.adapters.channels import mail, slack, teams
from shared.sessions.channels.cards import MAX_CONTEXT_CHARS, WARNING, Card
from shared.sessions.records.approval_policy import ApprovalPolicy, NoticeKind
from tests.support.cards import HOSTILE, LINK, card, context, hostile_card, slack_faults

_CUT = "more characters are on the page]"
INVISIBLE = "\u202e\u2066\u2069\u200b\U000e0041"


def test_a_card_has_the_question_the_exact_arguments_and_the_link() -> None:
    told = card({"url": "https://example.com/", "amount": 5_000}, told=context())

    assert (told.heading, told.question, told.link) == ("Approval needed", "Allow http_request?", LINK)
    assert json.loads(told.arguments) == {"url": "https://example.com/", "amount": 5_000}
    assert dict(told.facts) == {
        "Asked by": "ann",
        "Agent": "assistant, version 3",
        "Session": "Pay the invoice",
        "Takes": "one person of the role approver",
        "Decide by": "Thu 1 Jan 2026, 01:00 UTC; without a decision it does not run",
    }


def test_it_has_what_led_to_the_call_as_far_as_the_policy_shows_it() -> None:
    def shown(policy: str | None) -> list[str]:
        of = card(told=context(), policy=ApprovalPolicy.model_validate({"context": policy}))
        return [heading for heading, _ in of.context] + [name for name, _ in of.facts if name == "Session"]

    assert shown(None) == [
        "The question",
        "What the agent wrote with the call",
        "Untrusted input that it had read",
        "Earlier calls of the turn",
        "Session",
    ]
    assert shown("question") == ["The question", "Session"]
    assert shown("none") == []
    earlier = dict(card(told=context()).context)["Earlier calls of the turn"].splitlines()
    assert len(earlier) == 4, "the newest three, and how many there were before"
    assert earlier[0] == "11 before these"


def test_it_says_when_silence_lets_it_run_and_what_kind_of_notice_it_is() -> None:
    told = card(kind=NoticeKind.REMINDER, policy=ApprovalPolicy.model_validate({"on_timeout": "approve"}))

    assert told.heading == "Still waiting for an approval"
    assert "without a decision it runs without one" in dict(told.facts)["Decide by"]


def test_invisible_characters_are_shown_and_what_runs_is_the_same() -> None:
    told = hostile_card()

    assert not any(character in text for text in _texts_of(told) for character in INVISIBLE)
    assert json.loads(told.arguments) == HOSTILE
    assert "\\u202e" in told.arguments


@pytest.mark.parametrize("name", [*HOSTILE, "all"])
def test_slack_gets_plain_text_within_its_limits(name: str) -> None:
    told = hostile_card() if name == "all" else card({"x": HOSTILE[name]})
    message = slack.message(told)

    assert slack_faults(message) == []
    assert message["text"] == "Approval needed", "this field is read as markup"
    assert (message["unfurl_links"], message["unfurl_media"]) == (False, False)
    assert '"mrkdwn"' not in json.dumps(message)
    shown = "".join(block["text"]["text"] for block in message["blocks"] if block["type"] == "section")
    assert shown.endswith(told.arguments)


@pytest.mark.parametrize("length", [2_999, 7_000, 8_000, 200_000])
@pytest.mark.parametrize("character", ["x", "ש", "🎉", '"'])
def test_long_arguments_are_cut_and_the_card_says_so(length: int, character: str) -> None:
    told = card({"body": character * length}, told=context(character * 4_000, length=9_000))
    in_slack, in_teams = slack.message(told), teams.message(told)
    taken = sum(len(heading) + len(text) for heading, text in told.context)

    assert slack_faults(in_slack) == []
    assert len(orjson.dumps(in_teams)) <= teams.MAX_BYTES
    assert (_CUT in json.dumps(in_slack)) is (len(told.arguments) > slack.MAX_ARGUMENT_CHARS - taken)
    assert taken <= MAX_CONTEXT_CHARS
    if length == 200_000:
        assert _CUT in json.dumps(in_teams)
        assert _CUT in _part(_mailed(told), "plain")


@pytest.mark.parametrize("name", [*HOSTILE, "all"])
def test_teams_gets_all_text_in_runs_which_render_no_markdown(name: str) -> None:
    told = hostile_card() if name == "all" else card({"x": HOSTILE[name]})
    message = teams.message(told)
    content = message["attachments"][0]["content"]

    assert content["version"] == "1.5"
    assert set(_types(content)) == {"AdaptiveCard", "RichTextBlock", "TextRun", "Container", "Action.OpenUrl"}
    assert "msteams" not in content, "no entities: nobody can be mentioned"
    assert content["fallbackText"] == "Approval needed"
    runs = [run["text"] for run in _runs(content)]
    assert told.arguments in runs
    assert content["actions"] == [{"type": "Action.OpenUrl", "title": "Open the approval", "url": LINK}]
    assert len(orjson.dumps(message)) <= teams.MAX_BYTES


@pytest.mark.parametrize("name", [*HOSTILE, "all"])
def test_a_mail_holds_no_markup_of_others_and_no_header_of_theirs(name: str) -> None:
    told = hostile_card() if name == "all" else card({"x": HOSTILE[name]})
    mailed = _mailed(told)

    assert set(mailed.keys()) == {
        "Subject",
        "From",
        "To",
        "Message-ID",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
    }
    assert mailed["To"] == "ann@example.com, bob@example.com"
    assert mailed["Auto-Submitted"] == "auto-generated"
    page = _Page()
    page.feed(_part(mailed, "html"))
    assert page.tags <= {"html", "head", "meta", "title", "body", "p", "h1", "h2", "a", "table", "tr", "td", "pre"}
    assert page.links == [LINK], "only ours"
    assert told.arguments in "".join(page.text)
    assert told.arguments in _part(mailed, "plain")
    assert WARNING in "".join(page.text)


def test_a_repeated_mail_has_the_same_id() -> None:
    assert _mailed(card())["Message-ID"] == _mailed(card())["Message-ID"]
    assert _mailed(card())["Message-ID"] != _mailed(card(kind=NoticeKind.ESCALATED))["Message-ID"]


def _mailed(told: Card) -> EmailMessage:
    """As a receiver parses it."""
    sent = mail.message(told, sender="parley@example.com", recipients=["ann@example.com", "bob@example.com"])
    return cast(EmailMessage, message_from_bytes(sent.as_bytes(), policy=default))


def _part(mailed: EmailMessage, kind: str) -> str:
    part = mailed.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def _texts_of(told: Card) -> list[str]:
    return [told.question, told.arguments, *(text for part in (*told.facts, *told.context) for text in part)]


def _types(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["type"]] if isinstance(value.get("type"), str) else []
        return own + [kind for part in value.values() for kind in _types(part)]
    return [kind for part in value for kind in _types(part)] if isinstance(value, list) else []


def _runs(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        own = [value] if value.get("type") == "TextRun" else []
        return own + [run for part in value.values() for run in _runs(part)]
    return [run for part in value for run in _runs(part)] if isinstance(value, list) else []


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)
