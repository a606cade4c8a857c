"""Cards for Slack: Block Kit to an incoming webhook.

All text is `plain_text`, in which Slack reads neither markup nor mentions. The message's own `text`, which is read as
markup, holds our words only.
https://docs.slack.dev/reference/block-kit/blocks/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.adapters.channels.incoming import post
from shared.sessions.channels.cards import WARNING, Card

MAX_SECTION_CHARS = 3_000
MAX_ARGUMENT_CHARS = 8_000
"""Messages of more than about 13,000 characters in all blocks are refused (`msg_blocks_too_long`), which is documented
nowhere: https://github.com/slackapi/bolt-js/issues/2509"""


class SlackChannel:
    """`CardChannel` over an incoming webhook. url: a secret."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def send(self, card: Card) -> None:
        """Raises Transient unless it was taken."""
        await post(self._url, message(card), to="Slack")


def message(card: Card) -> dict[str, Any]:
    facts = "\n".join(f"{name}: {value}" for name, value in card.facts)
    taken = sum(len(heading) + len(text) for heading, text in card.context)
    parts = _pieces(card.cut_arguments(MAX_ARGUMENT_CHARS - taken))
    button = {
        "type": "button",
        "action_id": "open_approval",
        "text": _plain("Open the approval"),
        "url": card.link,
        "style": "primary",
    }
    return {
        "text": card.heading,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": [
            {"type": "context", "elements": [_plain(card.heading)]},
            {"type": "header", "text": _plain(card.question)},
            *({"type": "section", "text": _plain(piece)} for piece in _pieces(facts)),
            *(block for heading, text in card.context for block in _told(heading, text)),
            {"type": "context", "elements": [_plain("Exactly these arguments")]},
            *({"type": "section", "text": _plain(piece)} for piece in parts),
            {"type": "context", "elements": [_plain(WARNING)]},
            {"type": "actions", "elements": [button]},
        ],
    }


def _told(heading: str, text: str) -> Iterator[dict[str, Any]]:
    yield {"type": "context", "elements": [_plain(heading)]}
    yield from ({"type": "section", "text": _plain(piece)} for piece in _pieces(text))


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _pieces(text: str) -> Iterator[str]:
    """The text in as many pieces as it takes; Slack refuses an empty one."""
    for begin in range(0, len(text), MAX_SECTION_CHARS):
        yield text[begin : begin + MAX_SECTION_CHARS]
