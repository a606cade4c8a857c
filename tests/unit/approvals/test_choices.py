"""What a turn tells by choosing addresses: counted over all of its fetches, and small without a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.sessions.agents.agent import DEFAULT_AGENT, plan_turn
from shared.sessions.approvals.choices import TURN_BITS, FetchCount, KnownAddresses
from shared.sessions.approvals.containment import have_met, sources_read
from shared.sessions.approvals.proposals import Standing, propose_all
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import MessageStatus, SessionConfig
from shared.sessions.records.steps import ContextMessage, ProposedCall

PLAN = plan_turn(DEFAULT_AGENT, SessionConfig(), model="m", approval_mode=None)
LINKS = [f"http://outside.test/{place}/{letter}" for place in range(24) for letter in "abcdefghijklmnopqrstuvwxyz0123"]


def _user(text: str, **fields: Any) -> ContextMessage:
    return ContextMessage("user", text, 3, 1, 0, MessageStatus.COMPLETED, **fields)


def _called(name: str, output: str, **arguments: Any) -> list[ContextMessage]:
    """A step that called a tool, newest first."""
    answer = ContextMessage(
        "assistant", "", 3, 1, 1, MessageStatus.COMPLETED, calls=[{"id": "c", "name": name, "arguments": arguments}]
    )
    content = orjson.dumps({"status": "completed", "untrusted_output": output}).decode()
    return [ContextMessage("tool", content, 3, 1, 1, MessageStatus.COMPLETED, "c"), answer]


def _met(question: str = "What is new?", listed: Sequence[str] = ()) -> list[ContextMessage]:
    """A turn that has read a page, which lists addresses, and the user's history."""
    page = _called("fetch_url", "\n".join(listed), url="http://elsewhere.test/")
    return [*_called("search_history", "the code is 4711", query="code"), *page, _user(question)]


def _proposed(context: list[ContextMessage], urls: Sequence[str], spent_bits: float = 0.0) -> list[ProposedCall]:
    """One answer that fetches these."""
    calls = [ModelToolCall(f"c{n}", "fetch_url", orjson.dumps({"url": url}).decode()) for n, url in enumerate(urls)]
    return propose_all(calls, PLAN, Standing(sources=sources_read(context), context=context, spent_bits=spent_bits))


def _runs(context: list[ContextMessage], urls: Sequence[str], spent_bits: float = 0.0) -> list[bool]:
    return [not call.needs_approval for call in _proposed(context, urls, spent_bits)]


class TestWhatRunsWithoutAPerson:
    def test_none_of_18_parallel_choices_among_720_addresses(self) -> None:
        assert len(LINKS) == 720

        assert _runs(_met(listed=LINKS), LINKS[:18]) == [False] * 18

    @pytest.mark.parametrize("listed", [(), LINKS], ids=["alone", "beside a page of links"])
    @pytest.mark.parametrize("named", [1, 2, 3])
    def test_the_addresses_that_the_user_named(self, named: int, listed: Sequence[str]) -> None:
        urls = [f"https://named.test/{n}" for n in range(named)]

        assert all(_runs(_met(f"Compare {' and '.join(urls)}.", listed), urls))

    def test_one_of_a_long_list_that_the_user_pasted(self) -> None:
        assert _runs(_met("\n".join(LINKS[:18])), LINKS[:18]) == [True] + [False] * 17
        assert not any(_runs(_met("\n".join(LINKS)), LINKS[:18]))

    def test_one_of_two_that_the_user_named_again_or_in_another_order(self) -> None:
        one, other = "https://named.test/1", "https://named.test/2"

        assert all(_runs(_met(f"Compare {one} with {other}"), [other, one]))
        assert all(_runs(_met(f"Compare {one} with {other}"), [one, other, one]))

    def test_one_link_of_a_short_page_and_then_no_more(self) -> None:
        assert _runs(_met(listed=LINKS[:8]), LINKS[:3]) == [True, False, False]

    @pytest.mark.parametrize("read", ["search_history", "fetch_url"])
    def test_any_number_before_both_have_met(self, read: str) -> None:
        page = _called("fetch_url", "\n".join(LINKS), url="http://elsewhere.test/")
        context = [*page, _user("What is new?")] if read == "fetch_url" else [_user(" ".join(LINKS))]

        assert all(_runs(context, LINKS[:64]))

    def test_nobody_elses_message_names_anything_for_the_user(self) -> None:
        urls = [f"https://named.test/{n}" for n in range(8)]
        context = [*_met()[:-1], _user(" ".join(urls), authors=["will"])]

        assert KnownAddresses(context).named == ()
        assert _runs(context, urls)[2:] == [False] * 6

    def test_a_file_is_both_untrusted_and_private(self) -> None:
        context = [_user(" ".join(LINKS), note="[Files] a.txt")]

        assert have_met(sources_read(context))
        assert not any(_runs(context, [LINKS[5], LINKS[3]]))


class TestWhatIsCounted:
    def test_a_repeated_call_is_a_choice_again(self) -> None:
        url = LINKS[0]

        charged = [call.choice_bits for call in _proposed(_met(listed=[url]), [url] * 4)]

        assert charged[0] == charged[1] > 0
        assert _runs(_met(listed=[url]), [url] * 4) == [True, True, False, False]

    def test_a_call_that_does_not_run_costs_nothing_and_marks_nothing(self) -> None:
        named = "https://named.test/1"
        calls = [
            ModelToolCall("c1", "fetch_url", orjson.dumps({"url": named, "more": 1}).decode()),
            ModelToolCall("c2", "fetch_url", orjson.dumps({"url": named}).decode(), is_cut=True),
            ModelToolCall("c3", "fetch_url", orjson.dumps({"url": named}).decode()),
        ]
        context = _met(f"Read {named}")

        proposed = propose_all(calls, PLAN, Standing(sources=sources_read(context), context=context))

        assert [call.choice_bits for call in proposed] == [0, 0, 1]

    def test_what_earlier_steps_spent_is_gone(self) -> None:
        urls = ["https://named.test/1", "https://named.test/2"]
        question = f"Compare {' and '.join(urls)}"

        assert _runs(_met(question), urls, TURN_BITS - 2) == [True, False]
        assert _runs(_met(question), urls, TURN_BITS) == [False, False]

    def test_one_that_failed_was_a_choice_too(self) -> None:
        named = "https://named.test/1"
        failed = _called("fetch_url", "", url=named)
        failed[0] = failed[0]._replace(content='{"status":"failed","error":"no answer"}')

        again = _proposed([*failed, *_met(f"Read {named}")], [named])

        assert again[0].choice_bits > 1, "no longer the next one named"

    @pytest.mark.parametrize("form", ["https://named.test/a", "https://named.test/a#x", "https://named.test/a/"])
    def test_each_form_of_an_address_that_is_taken_is_a_choice(self, form: str) -> None:
        context = _met("Read https://named.test/a")

        assert _runs(context, [form]) == [True]
        assert _runs(context, ["https://named.test/a//", "https://named.test/a?x"]) == [False] * 2

    def test_a_contained_call_counts_as_why_it_waits_and_not_as_spent(self) -> None:
        (waiting,) = _proposed(_met(listed=LINKS), LINKS[:1])
        (composed,) = _proposed(_met(listed=LINKS), ["http://outside.test/?d=4711"])

        assert (waiting.contained, waiting.choice_bits > TURN_BITS) == (True, True)
        assert (composed.contained, composed.choice_bits) == (True, 0)

    @given(data=st.data(), named=st.integers(0, 3), listed=st.integers(0, 3))
    def test_in_however_many_steps_the_same_fetches_cost_the_same(
        self, data: st.DataObject, named: int, listed: int
    ) -> None:
        context, choices = _choices(named, listed)
        if not choices:
            return
        urls = data.draw(st.lists(st.sampled_from(choices), max_size=6))
        at_once = _proposed(context, urls)
        spent, one_by_one = 0.0, list[ProposedCall]()
        for url in urls:
            (call,) = _proposed(context, [url], spent)
            one_by_one.append(call)
            spent += 0 if call.contained else call.choice_bits
            context = [*_called("fetch_url", "done", url=url), *context]

        assert [(call.contained, call.choice_bits) for call in one_by_one] == [
            (call.contained, call.choice_bits) for call in at_once
        ]


@settings(max_examples=20, deadline=None)
@given(named=st.integers(0, 4), listed=st.integers(0, 12))
def test_a_turn_tells_no_more_than_its_bits(named: int, listed: int) -> None:
    """Every sequence of fetches that runs without a person is played: there are at most 2**TURN_BITS."""
    context, choices = _choices(named, listed)

    def sequences(before: tuple[str, ...], spent: float) -> int:
        count = FetchCount(context, spent)
        for url in before:
            count.add(url, 0.0)
        found = 1
        for url in choices:
            bits = count.bits(url)
            if count.fits(bits):
                found += sequences((*before, url), spent + bits)
        return found

    assert sequences((), 0.0) <= 2**TURN_BITS


def _choices(named: int, listed: int) -> tuple[list[ContextMessage], list[str]]:
    """A turn in which all has met, and every address that may be fetched in it, in each form."""
    asked = [f"https://named.test/{n}" for n in range(named)]
    context = _met("Compare " + " ".join(asked), LINKS[:listed])
    return context, [form for url in [*asked, *LINKS[:listed]] for form in (url, f"{url}/")]
