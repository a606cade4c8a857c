"""Scripts: a user message whose first line says exactly what the model answers, in either API.

    #script {"key": "k1", "tokens": 64, "fail": [{"status": 429, "retry_after": 1}, {}, {"cut_after": 20}],
             "tool_calls": [[{"name": "calculate", "arguments": {"expression": "1 + 1"}}], []]}

(on one line). A script's state is all in the request, except for `fail`: each of its entries is used
once, in order, per `key`. Only the newest user message counts.

Invariant: a malformed script gets a 400 that names the mistake, never an ordinary answer that could
let a test pass for the wrong reason.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import cycle, islice
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from devhost.model.conversation import ModelRequest, ToolCall
from devhost.model.errors import RequestRefused
from devhost.model.reply import Failure, Reply, new_call_id, split_tokens

PREFIX = "#script"
_WORDS = tuple(
    re.findall(
        r"\S+",
        "the quiet river turns below naïve hills while 東京 sleeps and a small 🙂 lamp writes 'one more line',"
        " then Žofie counts the boats: tři, čtyři, пять — all of them home before the rain reaches the shore",
    )
)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Strict):
    """The fault of one call. Counts are in tokens; times in the unit of their name, `retry_after` in seconds."""

    status: int | None = Field(None, ge=400, le=599)
    retry_after: float | str | None = None
    """Header `Retry-After`: seconds, or an HTTP date as text."""
    retry_after_ms: int | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None
    type: str | None = None
    """The kind of error, as in `invalid_request_error`."""
    body: JsonValue = None
    """The whole JSON of the error response, in any server's format."""
    hang: bool = False
    """Accept the request and never answer."""
    cut_after: int | None = Field(None, ge=0)
    """Drop the connection after that many tokens."""
    hang_after: int | None = Field(None, ge=0)
    """Send nothing more after that many tokens, with the connection open."""
    error_after: int | None = Field(None, ge=0)
    """Send an error event after that many tokens and end the stream."""
    first_ms: float | None = Field(None, ge=0)
    token_ms: float | None = Field(None, ge=0)


class ScriptedCall(_Strict):
    name: str
    arguments: dict[str, JsonValue] | str = {}
    """A text is sent as it is, so that broken JSON can be sent."""
    id: str | None = None
    """Absent: a new id."""
    fill: dict[str, int] = {}
    """Further arguments: texts of so many characters, by name. Mostly blanks, of which many are one token."""


class ScriptedFailure(_Strict):
    code: str = "server_error"
    message: str = "The model failed to generate a response."


class Script(_Strict):
    key: str | None = Field(None, min_length=1, max_length=200)
    tokens: int = Field(64, ge=0, le=100_000)
    content: str | None = None
    """The exact text instead of `tokens` filler words."""
    echo: bool = False
    """The content is the JSON of the `messages` or `input` that the model received."""
    refusal: str | None = None
    """The model refuses with this text."""
    reasoning: str = ""
    """The reasoning at the beginning of each answer of the turn; paragraphs become summary parts."""
    needs_reasoning: bool = False
    """Later requests of the turn must send that reasoning back, before the calls that it led to."""
    first_ms: float = Field(0, ge=0)
    token_ms: float = Field(0, ge=0)
    paced_until: str | None = None
    """A file on the model's machine: once it is there, what is left comes at once. So a test holds an answer in its
    middle for as long as it needs."""
    tool_calls: tuple[tuple[ScriptedCall, ...], ...] = ()
    """Entry i holds the calls of the turn's i-th answer; an empty or missing entry is an answer in text."""
    preamble: str = ""
    """Text before the calls."""
    finish_reason: str | None = None
    """As in chat completions; `length` and `content_filter` make an answer incomplete."""
    response_failed: ScriptedFailure | None = None
    """The model fails after its text."""
    cached_tokens: int = Field(0, ge=0)
    usage: Literal["none"] | None = None
    """`none`: the response has no usage."""
    stream: str | tuple[JsonValue, ...] | None = None
    """The body of the turn's first stream: raw text, or one entry per event (a text entry as it is: "[DONE]")."""
    fail: tuple[Fault, ...] = ()
    """Entry i is the fault of the i-th call for `key`; `{}` is no fault."""
    cut_after: int | None = Field(None, ge=0)
    hang_after: int | None = Field(None, ge=0)
    split_bytes: int | None = Field(None, ge=1)
    """Write the stream in pieces of that many bytes, wherever the boundaries fall."""


def find_script(request: ModelRequest) -> Script | None:
    """The script of the newest user message, if its first line is one. Raises RequestRefused."""
    index = request.last_user_index
    if index < 0 or not request.messages[index].words.startswith(PREFIX):
        return None
    return _parse(request.messages[index].words.partition("\n")[0])


@lru_cache(maxsize=1024)
def _parse(line: str) -> Script:
    try:
        script = Script.model_validate_json(line.removeprefix(PREFIX))
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        problems = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors)
        raise _bad(problems) from None
    if script.fail and script.key is None:
        raise _bad("'fail' needs a 'key'.")
    if script.needs_reasoning and not script.reasoning:
        raise _bad("'needs_reasoning' needs a 'reasoning'.")
    return script


def _bad(problem: str) -> RequestRefused:
    return RequestRefused(f"Bad script: {problem}", param="messages", code="bad_script")


def scripted_reply(script: Script, request: ModelRequest) -> Reply:
    """The scripted answer at this step of the turn.

    Raises RequestRefused (400) when the request lacks required reasoning.
    """
    if script.needs_reasoning:
        _refuse_without_reasoning(script, request)
    step = request.step
    planned = script.tool_calls[step] if step < len(script.tool_calls) else ()
    if request.raw.get("tool_choice") == "none":
        planned = ()
    calls = tuple(_call(call) for call in planned)  # even of tools that were not offered
    is_refusal = script.refusal is not None and not calls
    failure = script.response_failed
    return Reply(
        split_tokens(script.preamble) if calls else _content(script, request),
        calls,
        script.finish_reason or ("tool_calls" if calls else "stop"),
        thoughts=split_tokens(script.reasoning),
        is_refusal=is_refusal,
        failure=Failure(failure.code, failure.message) if failure else None,
        cached_tokens=script.cached_tokens,
        tells_usage=script.usage != "none",
    )


def _refuse_without_reasoning(script: Script, request: ModelRequest) -> None:
    for message in request.turn:
        if not message.tool_calls or message.thoughts == script.reasoning:
            continue
        if request.api == "chat":  # DeepSeek's wording
            raise RequestRefused(
                "The reasoning_content in the thinking mode must be passed back to the API.",
                code="invalid_request_error",
            )
        call = message.tool_calls[0]
        raise RequestRefused(
            f"Item '{call.item_id or call.id}' of type 'function_call' was provided without its required 'reasoning'"
            " item.",
            param="input",
        )


def _content(script: Script, request: ModelRequest) -> tuple[str, ...]:
    if script.refusal is not None:
        return split_tokens(script.refusal)
    if script.echo:
        sent = request.raw["messages" if request.api == "chat" else "input"]
        return split_tokens(orjson.dumps(sent).decode())
    if script.content is not None:
        return split_tokens(script.content)
    return filler(script.tokens)


@lru_cache(maxsize=64)
def filler(tokens: int) -> tuple[str, ...]:
    """That many words, the same every time, some of them not ASCII."""
    return tuple(f"{word} " for word in islice(cycle(_WORDS), tokens))


def _call(call: ScriptedCall) -> ToolCall:
    arguments = call.arguments
    if not isinstance(arguments, str):
        filled = {name: (f"x{' ' * 999}" * (chars // 1000 + 1))[:chars] for name, chars in call.fill.items()}
        arguments = orjson.dumps(arguments | filled).decode()
    return ToolCall(call.id or new_call_id(), call.name, arguments)
