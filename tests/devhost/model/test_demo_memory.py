"""Long conversations: what was stated is found again, and a summary keeps it."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devhost.model.demo.facts import asks_for_summary, facts_in, summary


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def said(text: str, role: str = "assistant") -> Any:
    return {"role": role, "content": text}


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("my dog is Rex.", {"dog": "Rex"}),
        ("My name is Ana and my cat's name is Tom, the great.", {"name": "Ana", "cat's name": "Tom, the great"}),
        ("Remember that the launch code is 4711!", {"launch code": "4711"}),
        ("remember: my badge number is 12-B", {"badge number": "12-B"}),
        ("You said: “my dog is Rex”\n\nAnything else?", {"dog": "Rex"}),
        ("user: the user's favourite number is 3.5; my hat is red", {"favourite number": "3.5", "hat": "red"}),
        ("my dog is Rex. My dog is Bo.", {"dog": "Bo"}),
        ("what is my dog? is my dog is Rex?", {}),
        ("You said: “my secret is something very lo…”", {}),
        ("your name is Parley. Our house is big. That is your message number 3.", {}),
    ],
)
def test_statements_are_found(text: str, stated: dict[str, str]) -> None:
    assert {fact.subject: fact.value for fact in facts_in([text])} == stated


@given(st.lists(st.from_regex(r"(my|remember that the) [a-z]{1,8} is [a-z0-9]{1,8}", fullmatch=True), max_size=30))
def test_a_summary_states_what_it_was_made_of_however_often_it_is_made_again(sentences: list[str]) -> None:
    facts = facts_in([". ".join(sentences)])
    once = facts_in([summary(facts)])
    assert [(fact.subject, fact.value) for fact in once] == [(fact.subject, fact.value) for fact in facts]
    assert facts_in([summary(once)]) == once


@pytest.mark.parametrize(
    "history",
    [
        [user("hello, my dog is Rex")],
        [user("remember that my dog is Rex"), said("noted"), user("1 + 1")],
        [said("Summary by the offline demo model, made by a rule:\n- my dog is Rex.", "system")],
        [said("my dog is Bo", "system"), user("x"), said("You said: “my dog is Rex”")],
    ],
)
async def test_what_was_said_before_is_answered_in_both_apis(client: openai.AsyncOpenAI, history: Any) -> None:
    asked = [*history, user("What is my dog?")]
    chat = (await client.chat.completions.create(model="m", messages=asked)).choices[0].message.content or ""
    assert "Your dog is Rex." in chat
    assert "not a language model" in chat
    assert (await client.responses.create(model="m", input=asked)).output_text == chat


async def test_what_was_never_said_is_not_made_up(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="m", input=[user("my dog is Rex"), user("what is my cat?")])
    assert "Your cat is not mentioned in what I was shown." in answer.output_text
    asked = [user("remember to buy milk"), user("what did I ask you to remember?")]
    assert "buy milk" in (await client.responses.create(model="m", input=asked)).output_text


async def test_a_conversation_is_summed_up_and_remembered_by_its_summary(client: openai.AsyncOpenAI) -> None:
    transcript = "user: my dog is Rex. It rains.\nassistant: You said: “my dog is Rex”\nuser: what is 17 * 23?\n"
    clock: Any = {
        "type": "function",
        "name": "sums",
        "parameters": {"type": "object", "properties": {"expression": {}}},
    }
    told = await client.responses.create(
        model="m", input=f"Summarise the conversation below, keep what matters:\n\n{transcript}", tools=[clock]
    )
    assert told.output_text == "Summary by the offline demo model, made by a rule:\n- my dog is Rex."
    later = await client.responses.create(
        model="m", instructions=told.output_text, input=[user("What's my dog?")], tools=[clock]
    )
    assert "Your dog is Rex." in later.output_text


async def test_a_conversation_is_summed_up_from_its_messages(client: openai.AsyncOpenAI) -> None:
    history = [user("my dog is Rex"), said("fine"), user("Please summarize our conversation.")]
    answer = await client.chat.completions.create(model="m", messages=history)
    assert (answer.choices[0].message.content or "").endswith("- my dog is Rex.")


async def test_a_summary_keeps_to_the_limit_with_what_is_newest(client: openai.AsyncOpenAI) -> None:
    facts = " ".join(f"my thing{i} is number{i}." for i in range(60))
    answer = await client.responses.create(
        model="m", input=f"Summarise the conversation: {facts}", max_output_tokens=100
    )
    assert answer.status == "completed"
    assert "my thing59 is number59." in answer.output_text
    assert "my thing0 " not in answer.output_text


@pytest.mark.parametrize(
    ("text", "is_wanted"),
    [
        ("Summarize the conversation so far in a few lines.", True),
        ("Write a short summary of this dialogue: …", True),
        ("Summarise the document", False),
        ("we had a conversation about summaries", False),
    ],
)
def test_a_summary_is_made_when_asked_for(text: str, is_wanted: bool) -> None:
    assert asks_for_summary(text) is is_wanted


@pytest.mark.parametrize(
    ("text", "reasoning", "thinks"),
    [
        ("hello", {"effort": "high"}, True),
        ("think about it", {}, True),
        ("think about it", {"effort": "none"}, False),
        ("hello", {"effort": "low"}, False),
    ],
)
async def test_the_demo_thinks_aloud_when_wanted(
    client: openai.AsyncOpenAI, text: str, reasoning: Any, thinks: bool
) -> None:
    wanted: Any = {**reasoning, "summary": "auto"}
    answer = await client.responses.create(model="m", input=text, reasoning=wanted)
    assert ("reasoning" in [item.type for item in answer.output]) is thinks
    assert "not a language model" in answer.output_text
    chat = await client.chat.completions.create(
        model="m", messages=[user(text)], reasoning_effort=reasoning.get("effort", "medium")
    )
    thought = chat.choices[0].message.to_dict().get("reasoning_content", "")
    assert ("made by rules" in str(thought)) is thinks
