"""Cards for Microsoft Teams: an Adaptive Card to a workflow ("When a Teams webhook request is received").

`TextBlock` and `FactSet` render Markdown, `TextRun` does not: so all text is in runs. Mentions need entities, which no
card of ours has.
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
https://adaptivecards.io/explorer/TextRun.html
"""

from __future__ import annotations

from typing import Any

import orjson

from shared.adapters.channels.incoming import post
from shared.sessions.channels.cards import WARNING, Card

SCHEMA = "http://adaptivecards.io/schemas/adaptive-card.json"
VERSION = "1.5"
"""The newest that Teams shows everywhere."""
MAX_BYTES = 28 * 1024
"""Of one message, as Teams documents; longer ones are refused."""
_FIRST_CUT = 12_000


class TeamsChannel:
    """`CardChannel` over an incoming workflow. url: a secret."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def send(self, card: Card) -> None:
        """Raises Transient unless it was taken."""
        await post(self._url, message(card), to="Teams")


def message(card: Card) -> dict[str, Any]:
    """The message, within MAX_BYTES."""
    most = min(len(card.arguments), _FIRST_CUT)
    while True:
        told = _message(card, card.cut_arguments(most))
        if len(orjson.dumps(told)) <= MAX_BYTES or most == 0:
            return told
        most //= 2


def _message(card: Card, arguments: str) -> dict[str, Any]:
    content = {
        "$schema": SCHEMA,
        "type": "AdaptiveCard",
        "version": VERSION,
        "fallbackText": card.heading,
        "body": [
            _text(card.heading, color="Warning", weight="Bolder"),
            _text(card.question, size="Large", weight="Bolder"),
            *(_fact(name, value) for name, value in card.facts),
            *(run for heading, text in card.context for run in (_text(heading, weight="Bolder"), _text(text))),
            _text("Exactly these arguments", weight="Bolder"),
            {
                "type": "Container",
                "style": "emphasis",
                "items": [_text(arguments, fontType="Monospace")],
            },
            _text(WARNING, isSubtle=True, size="Small"),
        ],
        "actions": [{"type": "Action.OpenUrl", "title": "Open the approval", "url": card.link}],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": content}
    return {"type": "message", "attachments": [attachment]}


def _text(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}


def _fact(name: str, value: str) -> dict[str, Any]:
    runs = [{"type": "TextRun", "text": f"{name}: ", "isSubtle": True}, {"type": "TextRun", "text": value}]
    return {"type": "RichTextBlock", "inlines": runs}
