"""Scripts: a user message whose first line says exactly how the model is to answer.

    #script {"key": "k1", "tokens": 64, "fail": [{"status": 429, "retry_after": 1}, {}, {"cut_after": 20}],
             "tool_calls": [[{"name": "calculate", "arguments": {"expression": "1 + 1"}}], []]}

(on one line). All state a script needs travels in the request, but for `fail`: its entries are used
up once each, in order, per `key`. The newest user message is the one that counts.

Invariant: a malformed script is a 400 that names the mistake, never an ordinary answer that would
let a test pass for the wrong reason.
"""

from __future__ import annotations

import re
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import cycle, islice

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from devhost.model.reply import Reply, split_tokens
from devhost.model.request import ChatRequest, RequestRefused, ToolCall

PREFIX = "#script"
MAX_KEYS = 10_000
_ARRIVALS_KEPT = 64
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
    """What goes wrong with one call. Counts are in tokens; times in ms and seconds as named."""

    status: int | None = Field(None, ge=400, le=599)
    retry_after: float | str | None = None
    """Header `Retry-After`: seconds, or an HTTP date as text."""
    retry_after_ms: int | None = None
    code: str | None = None
    message: str | None = None
    hang: bool = False
    """Take the request and never answer."""
    cut_after: int | None = Field(None, ge=0)
    """Drop the connection after that many tokens."""
    hang_after: int | None = Field(None, ge=0)
    """Fall silent after that many tokens, connection open."""
    error_after: int | None = Field(None, ge=0)
    """Send an error event after that many tokens and end the stream."""
    first_ms: float | None = Field(None, ge=0)
    token_ms: float | None = Field(None, ge=0)


class ScriptedCall(_Strict):
    name: str
    arguments: dict[str, JsonValue] | str = {}
    """Text goes out as it is, so that broken JSON can be sent."""
    id: str | None = None
    """Fresh when absent."""


class Script(_Strict):
    key: str | None = Field(None, min_length=1, max_length=200)
    tokens: int = Field(64, ge=0, le=100_000)
    content: str | None = None
    """The exact text instead of `tokens` filler words."""
    echo: bool = False
    """The content is the JSON of the messages the model was sent."""
    first_ms: float = Field(0, ge=0)
    token_ms: float = Field(0, ge=0)
    tool_calls: tuple[tuple[ScriptedCall, ...], ...] = ()
    """Entry i is what the i-th answer of the turn calls; past the end, or empty: it answers in text."""
    preamble: str = ""
    """Text that goes before the calls."""
    finish_reason: str | None = None
    fail: tuple[Fault, ...] = ()
    """Entry i befalls the i-th call seen for `key`; `{}` lets one through."""
    cut_after: int | None = Field(None, ge=0)
    hang_after: int | None = Field(None, ge=0)
    split_bytes: int | None = Field(None, ge=1)
    """Write the stream in pieces of that many bytes, wherever they fall."""


@dataclass(slots=True)
class CallLog:
    """What was seen of one key."""

    calls: int = 0
    completed: int = 0
    failed: int = 0
    """Answered with a fault."""
    abandoned: int = 0
    """The client went away before the end."""
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=_ARRIVALS_KEPT))
    """Times of the newest calls, seconds on a monotonic clock."""


class CallLogs:
    """Logs by key; the key unused for longest is forgotten first."""

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._logs: OrderedDict[str, CallLog] = OrderedDict()

    def arrived(self, key: str) -> CallLog:
        """Count a call and return the log of its key."""
        log = self._logs.setdefault(key, CallLog())
        self._logs.move_to_end(key)
        log.calls += 1
        log.arrivals.append(time.monotonic())
        if len(self._logs) > self._max_keys:
            self._logs.popitem(last=False)
        return log

    def get(self, key: str) -> CallLog:
        return self._logs.get(key, CallLog())


def find_script(request: ChatRequest) -> Script | None:
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
        raise RequestRefused(f"Bad script: {problems}", param="messages", code="bad_script") from None
    if script.fail and script.key is None:
        raise RequestRefused("Bad script: 'fail' needs a 'key'.", param="messages", code="bad_script")
    return script


def scripted_reply(script: Script, request: ChatRequest) -> Reply:
    """The answer the script asks for at this step of the turn."""
    step = request.step
    planned = script.tool_calls[step] if step < len(script.tool_calls) else ()
    if planned and request.raw.get("tool_choice") != "none":  # even a tool that nobody offered
        calls = tuple(_call(call) for call in planned)
        return Reply(split_tokens(script.preamble), calls, script.finish_reason or "tool_calls")
    return Reply(_content(script, request), (), script.finish_reason or "stop")


def _content(script: Script, request: ChatRequest) -> tuple[str, ...]:
    if script.echo:
        return split_tokens(orjson.dumps(request.raw["messages"]).decode())
    if script.content is not None:
        return split_tokens(script.content)
    return filler(script.tokens)


@lru_cache(maxsize=64)
def filler(tokens: int) -> tuple[str, ...]:
    """That many words, the same every time; some of them are not ASCII."""
    return tuple(f"{word} " for word in islice(cycle(_WORDS), tokens))


def _call(call: ScriptedCall) -> ToolCall:
    arguments = call.arguments if isinstance(call.arguments, str) else orjson.dumps(call.arguments).decode()
    return ToolCall(call.id or new_call_id(), call.name, arguments)


def new_call_id() -> str:
    """A call id as OpenAI makes them: unique, never derived from the conversation."""
    return f"call_{uuid.uuid4().hex[:24]}"
