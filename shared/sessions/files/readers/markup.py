"""The text of HTML in a message.

Invariant: one pass over the text, whatever it holds; nothing is fetched. Pages from the network are read elsewhere, by
a real parser.
"""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"<!--|</?([a-zA-Z][a-zA-Z0-9]{0,20})[^<>]*>|<[!?][^<>]*>")
_UNSEEN = frozenset({"script", "style", "head", "title", "template"})
_BLOCKS = frozenset(
    {"p", "div", "br", "tr", "li", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "hr", "pre"}
)
_CELLS = frozenset({"td", "th"})


def text_of_html(source: str) -> str:
    """Lines as a browser shows them, without layout."""
    lowered = source.lower()
    if len(lowered) != len(source):  # a few letters change their length
        lowered = source
    parts: list[str] = []
    at = 0
    while (tag := _TAG.search(source, at)) is not None:
        parts.append(_plain(source[at : tag.start()]))
        at = tag.end()
        name = (tag[1] or "").lower()
        if tag[0] == "<!--":
            at = _after(lowered, "-->", at)
        elif name in _UNSEEN and not tag[0].startswith("</"):
            at = _after(lowered, f"</{name}", at)
        elif name in _BLOCKS:
            parts.append("\n")
        elif name in _CELLS and tag[0].startswith("</"):
            parts.append("\t")
    parts.append(_plain(source[at:]))
    lines = (" ".join(line.split(" ")).strip() for line in "".join(parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _after(text: str, end: str, at: int) -> int:
    found = text.find(end, at)
    return len(text) if found < 0 else found + (len(end) if end == "-->" else 0)


def _plain(text: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", text)).replace("\u00a0", " ")
