"""Approvals whose arguments try to be more than text, and what Slack documents of the messages it takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.sessions.approvals.notices import webhook_id
from shared.sessions.channels.cards import Card, card_of
from shared.sessions.events import EventTarget
from shared.sessions.models import ApprovalStatus, ToolCallStatus
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.records.approvals import ApprovalRecord, CallBefore, CallContext, CutText

LINK = "https://parley.example/api/approve/eyJhbGciOiJIUzI1NiJ9.token"
REQUESTED_AT = datetime(2026, 1, 1, tzinfo=UTC)

HOSTILE = {
    "slack": "<!channel> <@U0000> <https://evil.example|Approve> *bold* `code` :tada: &lt;!here&gt;",
    "teams": "<at>Everyone</at> **bold** [Approve](https://evil.example) \\n\\n# heading",
    "html": "</pre><script>alert(1)</script><img src=//evil.example/x onerror=alert(1)><a href='//evil'>Approve</a>",
    "bidi": "safe\u202etxt.exe\u2066 hidden\u2069 \u200bzero\U000e0041tag",
    "lines": "a\r\nBcc: everybody@example.com\r\n\r\nbody\x00\x1b[31m",
    "template": "${@currentUser} {{DATE(2026-01-01T00:00:00Z)}} %s {0}",
}
"""Markup, mentions, links, reordered and invisible text, headers, and templates."""


def record(arguments: dict[str, Any] | None = None, **changes: Any) -> ApprovalRecord:
    values: dict[str, Any] = {
        "id": "01900000-0000-7000-8000-000000000001",
        "tool_call_id": "c1",
        "session_id": "s1",
        "turn_id": "t1",
        "tool": "http_request",
        "arguments": {"url": "https://example.com/"} if arguments is None else arguments,
        "arguments_digest": "d",
        "decided_arguments": None,
        "status": ApprovalStatus.PENDING,
        "requested_by": "ann",
        "requested_at": REQUESTED_AT,
        "expires_at": REQUESTED_AT + timedelta(hours=1),
        "decided_by": None,
        "decided_at": None,
        "comment": None,
        "instance_id": "i1",
        "target": EventTarget("s1", 0, 0),
        "agent_id": "assistant",
        "agent_version": 3,
    }
    return ApprovalRecord(**values | changes)


def context(text: str = "Pay the invoice", *, length: int | None = None, **changes: Any) -> CallContext:
    """What led to a call, with this text wherever a text can be. length: of each, if it is longer."""
    whole = CutText(text, len(text) if length is None else length)
    call = CallBefore(text[:64], 1, ToolCallStatus.COMPLETED, whole, whole, whole, address=text)
    values: dict[str, Any] = {
        "session_name": text,
        "question": whole,
        "asked_by": text,
        "asked_at": REQUESTED_AT,
        "files": (text,),
        "note": whole,
        "said": whole,
        "reasoning": whole,
        "sources": frozenset({"http_request", text}),
        "before": (call,) * 12,
        "before_count": 14,
    }
    return CallContext(**values | changes)


def card(
    arguments: dict[str, Any] | None = None,
    kind: NoticeKind = NoticeKind.REQUESTED,
    told: CallContext | None = None,
    **changes: Any,
) -> Card:
    of = record(arguments, **changes)
    return card_of(of, kind, told, message_id=webhook_id(of.id, kind, 0), link=LINK)


def hostile_card() -> Card:
    """Every hostile text in every place that others fill."""
    every = " ".join(HOSTILE.values())
    return card(HOSTILE, told=context(every), tool=every, requested_by=every, reason=every, agent_id=every)


def slack_faults(message: dict[str, Any]) -> list[str]:
    """What of a message is not as https://docs.slack.dev/reference/block-kit documents the parts that cards use."""
    faults: list[str] = []
    if not 1 <= len(message["blocks"]) <= 50:
        faults.append("blocks: 1 to 50")
    if set(message) - {"text", "blocks", "unfurl_links", "unfurl_media"}:
        faults.append("fields of the message")
    for block in message["blocks"]:
        match block:
            case {"type": "header", "text": text} if len(block) == 2:
                faults += _text_faults(text, 150)
            case {"type": "section", "text": text} if len(block) == 2:
                faults += _text_faults(text, 3_000)
            case {"type": "context", "elements": [*elements]} if len(block) == 2 and 1 <= len(elements) <= 10:
                faults += [fault for element in elements for fault in _text_faults(element, 3_000)]
            case {"type": "actions", "elements": [button]} if len(block) == 2:
                faults += _button_faults(button)
            case _:
                faults.append(f"a block that is not as documented: {block['type']}")
    if len("".join(_texts(message["blocks"]))) > 13_000:
        faults.append("msg_blocks_too_long")
    return faults


def _text_faults(text: dict[str, Any], most: int) -> list[str]:
    if set(text) != {"type", "text", "emoji"} or text["type"] != "plain_text" or not isinstance(text["emoji"], bool):
        return [f"not plain text: {text}"]
    return [] if 1 <= len(text["text"]) <= most else [f"{len(text['text'])} characters instead of 1 to {most}"]


def _button_faults(button: dict[str, Any]) -> list[str]:
    faults = _text_faults(button["text"], 75)
    if set(button) != {"type", "action_id", "text", "url", "style"} or button["style"] not in ("primary", "danger"):
        faults.append("fields of the button")
    if len(button["url"]) > 3_000 or len(button["action_id"]) > 255:
        faults.append("the button's url or action_id is too long")
    return faults


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        shown = [part for name, part in value.items() if name == "text" or not isinstance(part, str)]
        return [text for part in shown for text in _texts(part)]
    return [text for part in value for text in _texts(part)] if isinstance(value, list) else []
