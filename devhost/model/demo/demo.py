"""The offline model's own answers: a few rules, the user's words, and a label.

Invariant: texts are deterministic, and every answer says that no language model wrote it (except JSON, which has no
place for that). Text from tools is untrusted input: it is quoted, never followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice

from devhost.model.conversation import Message, ModelRequest, ToolCall
from devhost.model.demo.choose import Plan, PlannedCall, forced_call, ids_in, plan_calls
from devhost.model.demo.facts import MAX_KEPT, asked_for, asks_for_notes, asks_for_summary, facts_in, find_fact, summary
from devhost.model.demo.forms import instance_of
from devhost.model.errors import Json
from devhost.model.reply import Reply, new_call_id, split_tokens

_LABEL = "I am the offline demo model: a handful of rules, not a language model."
_QUOTE_CHARS = 300
_RESULT_CHARS = 800
_MAX_WORDS = 3000
_WORDS_WANTED = re.compile(r"\b(\d{1,5})[- ]words?\b", re.IGNORECASE)
_THINK = re.compile(r"\bthink\b", re.IGNORECASE)
_DEEP = frozenset({"high", "xhigh", "max"})
_REJECTED = re.compile(r"\b(?:rejected|denied|declined) by (\S+?)[.,;:!]?(?=\s|$|\")", re.IGNORECASE)
_UNDECIDED = re.compile(r"\b(?:timed[ _-]?out|time-?out|expired|nobody (?:answered|decided))\b", re.IGNORECASE)
_FILLER = (
    "This sentence only gives you something to watch while it streams.",
    "Every word of it is made by a rule, and the same request makes the same words.",
    "You may stop it half-way and see what is kept.",
    "Point the app at a real model when you want an answer that thinks.",
)
_EXAMPLES = (
    "Try “what is 17 * 23”, “what time is it in Tokyo”, “make a pdf with # Hello”,"
    ' or “POST {"hello": "world"} to http://localhost:9999/notes”'
)


def demo_reply(request: ModelRequest) -> Reply:
    """The demo answer: calls of fitting tools, or text or JSON; with reasoning where the request asks for it."""
    reply = _answer(request)
    text = _last_user(request).words
    is_wanted = request.effort in _DEEP or (_THINK.search(text) and request.effort != "none")
    return replace(reply, thoughts=split_tokens(_thoughts(text, reply))) if is_wanted else reply


def _answer(request: ModelRequest) -> Reply:
    last = _last_user(request)
    results = [message for message in request.turn if message.role == "tool"]
    if results:
        return _in_form(request) or _in_text(_about_results(results, request.turn))
    if request.form is None and request.tool_choice in ("auto", "none") and asks_for_summary(last.text):
        return Reply(split_tokens(_summary(request)))
    plan = _plan(request, last.words)
    if plan.calls:
        count = len(plan.calls) if request.parallel_tool_calls else 1
        calls = tuple(_wire_call(call) for call in plan.calls[:count])
        return Reply((), calls, "tool_calls")
    return _in_form(request) or _in_text(_about_words(request, last.words, plan.unmet))


def _last_user(request: ModelRequest) -> Message:
    return request.messages[request.last_user_index] if request.last_user_index >= 0 else request.messages[-1]


def _plan(request: ModelRequest, text: str) -> Plan:
    choice = request.tool_choice
    if choice == "none":
        return Plan()
    if choice == "auto":
        return plan_calls(text, request.tools, ids=_ids(request))
    if choice == "required":
        plan = plan_calls(text, request.tools, ids=_ids(request))
        return plan if plan.calls else Plan((forced_call(text, request.tools[0]),))
    return Plan((forced_call(text, next(tool for tool in request.tools if tool.name == choice)),))


def _ids(request: ModelRequest) -> list[str]:
    """The ids in the user's messages and in tool results, oldest first."""
    return [found for message in request.messages if message.role != "system" for found in ids_in(message.text)]


def _wire_call(call: PlannedCall) -> ToolCall:
    return ToolCall(new_call_id(), call.name, json.dumps(call.arguments, ensure_ascii=False))


def _in_form(request: ModelRequest) -> Reply | None:
    """The JSON answer that the request's schema asks for; None without a schema."""
    if request.form is None:
        return None
    words = _quoted(_last_user(request).words, _QUOTE_CHARS)
    made = instance_of(request.form, words) if request.form else {"said": words, "written_by": "offline demo model"}
    return Reply(split_tokens(json.dumps(made, ensure_ascii=False)))


def _summary(request: ModelRequest) -> str:
    """A summary of the newest statements, as many as fit the token limit of the answer."""
    facts = facts_in(message.text for message in request.messages if message.role != "system")[-MAX_KEPT:]
    while facts and request.max_tokens is not None and len(split_tokens(summary(facts))) > request.max_tokens:
        facts = facts[1:]
    return summary(facts)


def _thoughts(text: str, reply: Reply) -> str:
    names = ", ".join(f"`{call.name}`" for call in reply.tool_calls)
    found = f"A rule fits: I call {names}." if names else "No tool is left to call, so I answer."
    return f"Demo reasoning, made by rules. The newest message says “{_quoted(text, 80)}”.\n\n{found}"


def _recalled(request: ModelRequest, text: str) -> Iterator[str]:
    """Earlier statements, when the user asks for them."""
    question = asked_for(text)
    if question is None and not asks_for_notes(text):
        return
    facts = facts_in(message.text for message in request.messages)
    if question is None:
        notes = [fact.line for fact in facts if fact.line.startswith("remember")]
        yield "You asked me to " + " ".join(notes) if notes else "You did not ask me to remember anything."
        return
    owner = "Your" if question.owner == "my" else "The"
    fact = find_fact(facts, question.subject)
    if fact is not None:
        yield f"{owner} {question.subject} is {fact.value}."
    elif question.owner == "my":
        yield f"{owner} {question.subject} is not mentioned in what I was shown."


def _in_text(sentences: Iterator[str]) -> Reply:
    return Reply(split_tokens("\n\n".join(sentences)))


def _about_words(request: ModelRequest, text: str, unmet: Sequence[str]) -> Iterator[str]:
    said = _quoted(text, _QUOTE_CHARS)
    yield f"You said: “{said}”" if said else "You sent no words."
    yield from _recalled(request, text)
    attachments = _last_user(request).attachments
    if attachments:
        yield f"I cannot see the {attachments} attachment{'s' if attachments > 1 else ''} that came with it."
    for wish in unmet:
        yield f"For that I would need {wish}, and none was offered to me."
    wanted = _WORDS_WANTED.search(text)
    if wanted:
        yield _essay(min(int(wanted.group(1)), _MAX_WORDS))
    turns = sum(message.role == "user" for message in request.messages)
    if turns > 1:
        yield f"That is your message number {turns} in the part of our conversation I was shown."
    yield f"{_LABEL} {_EXAMPLES}."


def _about_results(results: Sequence[Message], turn: Sequence[Message]) -> Iterator[str]:
    names = {call.id: call.name for message in turn for call in message.tool_calls}
    for result in results:
        yield _about_result(names.get(result.tool_call_id, "the tool"), result.text)
    yield f"{_LABEL} Only what is quoted above comes from tools."


def _about_result(name: str, content: str) -> str:
    status, text = _read_result(content)
    said = _quoted(text, _RESULT_CHARS)
    rejected = _REJECTED.search(said)
    if status == "rejected" or (rejected and not status):
        by = rejected.group(1) if rejected else "Somebody"
        return f"{by} rejected the call of `{name}`, so it was not made. I was told: “{said}”"
    if status == "timed_out" or (_UNDECIDED.search(said) and status != "completed"):
        return f"The call of `{name}` timed out. I was told: “{said}”"
    if status == "failed":
        return f"The call of `{name}` failed. I was told: “{said}”"
    return f"`{name}` says: “{said}”" if said else f"`{name}` finished without saying anything."


def _read_result(content: str) -> tuple[str, str]:
    """The status in a JSON tool message ("" when there is none), and its readable part."""
    try:
        value: Json = json.loads(content)
    except (ValueError, RecursionError):
        return "", content
    if not isinstance(value, Mapping):
        return "", content
    status = value.get("status")
    named = [value[key] for key in ("error", "message", "detail", "comment", "content", "result") if key in value]
    texts = [text for text in named if isinstance(text, str)]
    # Otherwise all texts, except mere labels.
    texts = texts or [text for key, text in value.items() if isinstance(text, str) and key not in ("status", "id")]
    return status if isinstance(status, str) else "", " ".join(texts) or content


def _quoted(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _essay(words: int) -> str:
    return " ".join(islice(cycle(" ".join(_FILLER).split()), words))
