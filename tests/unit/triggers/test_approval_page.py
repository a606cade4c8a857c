"""The approver's page, of an approval for which rules hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.sessions.approval import ApprovalView
from shared.sessions.approvals.call_context import context_of
from shared.sessions.approvals.models import Approval, RequirementProgress
from shared.sessions.models import ApprovalStatus, Decision
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.approvals import CallContext, Vote
from tests.support.cards import HOSTILE, context
from triggers.approvals import page

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _approval(rule: str | None, **policy: object) -> Approval:
    return Approval(
        id="a1",
        tool_call_id="c1",
        session_id="s1",
        turn_id="t1",
        tool="refund",
        arguments={"amount": 5000},
        status=ApprovalStatus.PENDING,
        requested_by="ann",
        requested_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        policy=ApprovalPolicy.model_validate({"roles": ["finance"], "quorum": 2} | policy),
        quorum=2,
        requirements=[RequirementProgress(rule=rule, roles=["finance"], users=[], quorum=2, approvals=1)],
        votes=[Vote(by="fay", decision=Decision.APPROVE, at=NOW)],
        reason=None,
    )


def _shown(approval: Approval, told: CallContext | None = None, now: datetime = NOW) -> str:
    led_to_it = context_of(approval.id, told, approval.policy.context)
    view = ApprovalView(approval, may_decide=True, refusal=None, context=led_to_it)
    return bytes(page.question(view, user_id="fred", now=now).body).decode()


def test_it_says_which_rule_takes_whom_and_how_far_it_is() -> None:
    shown = _shown(_approval("Large <b>refund</b>"))

    assert "the rule “Large &lt;b&gt;refund&lt;/b&gt;” takes 2 people of the role finance" in shown
    assert "1 of 2 for the rule “Large &lt;b&gt;refund&lt;/b&gt;”" in shown
    assert "<b>" not in shown


def test_without_a_rule_it_says_what_it_said() -> None:
    shown = _shown(_approval(None))

    assert "2 people must approve the same arguments" in shown
    assert "1 of 2 required approvals so far." in shown


@pytest.mark.parametrize(
    ("grants", "words"),
    [
        (True, "in turns of ann, unless"),
        ({"same": [{"argument": "url", "part": "host"}, {"argument": "to"}]}, "with the same host of url and to"),
    ],
)
def test_a_grant_says_what_it_holds_for(grants: object, words: str) -> None:
    assert words in _shown(_approval(None, allow_for_session=grants))


def test_what_led_to_the_call_is_text_and_says_what_is_left_out() -> None:
    shown = _shown(_approval(None), context("Pay <b>now</b>\u202e" + HOSTILE["html"], length=9_000))

    assert "What led to it" in shown
    assert shown.count("Pay &lt;b&gt;now&lt;/b&gt;\\u202e") > 5
    for markup in ("<b>", "<script", "<img", "<a "):
        assert markup not in shown
    assert "more characters are not shown]" in shown
    assert "2 calls before these are not shown" in shown
    assert '<span class="warn">untrusted result</span>' in shown
    assert "s1" not in shown, "a session has a name"


@pytest.mark.parametrize(
    ("policy", "question", "rest"),
    [(None, True, True), ("full", True, True), ("question", True, False), ("none", False, False)],
)
def test_the_policy_narrows_what_is_shown(policy: str | None, question: bool, rest: bool) -> None:
    shown = _shown(_approval(None, context=policy), context("Pay the invoice", session_name="Invoices"))

    assert ("The question, by Pay the invoice" in shown) is question
    assert ("<dd>Invoices</dd>" in shown) is question
    assert ("What the agent wrote with the call" in shown) is rest
    assert ("Earlier calls of this turn" in shown) is rest
    assert ("The policy of this tool does not show it here." in shown) is (policy == "none")


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(seconds=20), "in less than a minute"),
        (timedelta(hours=1), "in 1 hour"),
        (timedelta(hours=3, minutes=20), "in 3 hours 20 minutes"),
        (timedelta(days=2, hours=1, minutes=5), "in 2 days 1 hour"),
    ],
)
def test_times_are_told_for_people_in_any_zone(left: timedelta, words: str) -> None:
    shown = _shown(_approval(None), now=NOW + timedelta(hours=1) - left)

    assert f'<time datetime="2026-01-01T01:00:00+00:00">Thu 1 Jan 2026, 01:00 UTC</time> ({words})' in shown


def test_a_decided_page_asks_nothing_and_shows_what_ran_beside_what_was_asked() -> None:
    changed = _approval(None).model_copy(
        update={
            "status": ApprovalStatus.APPROVED,
            "decided_arguments": {"amount": 1},
            "decided_by": "fay",
            "decided_at": NOW,
        }
    )
    shown = bytes(page.decided(changed).body).decode()

    assert "Approved with these changed arguments" in shown
    assert shown.index("&quot;amount&quot;: 1\n") < shown.index("What had been asked for") < shown.index("5000")
    assert "Exactly these arguments" not in shown
    assert "Decide by" not in shown
    assert "<form" not in shown
