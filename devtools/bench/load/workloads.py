"""The workloads, and the same work as direct requests to the model (the bare form).

Invariant: a workload and its bare form request the same answers, so their difference is the system's overhead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

TOKENS = 64
_QUESTION = "How do boats find their way home?"
_CALCULATION = {"expression": "(17 * 23 + 4) / 3"}
_RESULT = '{"status":"completed","untrusted_output":"131.66666666666666"}'


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of turn."""

    name: str
    message: str
    """The user's message; its first line is a script for the fake model."""
    tool: str | None = None
    needs_approval: bool = False

    def bare_requests(self, tools: list[dict[str, Any]], *, history: int = 0) -> list[bytes]:
        """Chat completion bodies of one turn's model calls. history: number of turns before this one."""
        messages: list[dict[str, Any]] = []
        for _ in range(history):
            messages.append({"role": "user", "content": self.message})
            messages.append({"role": "assistant", "content": "word " * TOKENS})
        messages.append({"role": "user", "content": self.message})
        bodies = [_body(messages, tools)]
        if self.tool is not None:
            call = {"name": self.tool, "arguments": orjson.dumps(_CALCULATION).decode()}
            messages.append(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "call_bench", "type": "function", "function": call}],
                }
            )
            messages.append({"role": "tool", "tool_call_id": "call_bench", "content": _RESULT})
            bodies.append(_body(messages, tools))
        return bodies


def plain(*, first_ms: float = 0, token_ms: float = 0) -> Workload:
    """W1: one answer of 64 streamed tokens. first_ms, token_ms: the pace, as of a real model."""
    script = {"tokens": TOKENS, "first_ms": first_ms, "token_ms": token_ms}
    return Workload("realistic" if first_ms else "W1", _message(script))


def automatic_tool() -> Workload:
    """W2: one call of a tool that needs no approval, then 64 tokens."""
    call = {"name": "calculate", "arguments": _CALCULATION}
    return Workload("W2", _message({"tokens": TOKENS, "tool_calls": [[call], []]}), tool="calculate")


def approved_tool(url: str) -> Workload:
    """W3: one call that waits for an approval, given at once, then 64 tokens. url: target of the tool call."""
    call = {"name": "http_request", "arguments": {"method": "POST", "url": url, "body": "{}"}}
    script = {"tokens": TOKENS, "tool_calls": [[call], []]}
    return Workload("W3", _message(script), tool="http_request", needs_approval=True)


def workload(name: str, *, sink_url: str) -> Workload:
    """A workload by name: W1, W2, W3, realistic (200 ms to the first token, 10 ms per token)."""
    match name:
        case "W1":
            return plain()
        case "W2":
            return automatic_tool()
        case "W3":
            return approved_tool(sink_url)
        case "realistic":
            return plain(first_ms=200, token_ms=10)
    raise ValueError(f"no workload {name!r}")


def _message(script: dict[str, Any]) -> str:
    return f"#script {orjson.dumps(script).decode()}\n{_QUESTION}"


def _body(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> bytes:
    request: dict[str, Any] = {
        "model": "offline-demo",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if tools:
        request["tools"] = tools
    return orjson.dumps(request)
