"""The visible text of an HTML page, in lines, without scripts and styles.

Invariant: pages are untrusted input; none blocks the event loop or takes more than linear time and memory. libxml2
parses a page in pieces: the standard library needs minutes for half a megabyte of open quotes.
"""

from __future__ import annotations

import asyncio
import re

_SILENT = frozenset(["script", "style", "template", "noscript", "svg", "math", "iframe", "object", "head", "select"])
"""Elements whose content is not visible text."""
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "br", "dd", "details", "div", "dl", "dt", "fieldset"),
        *("figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"),
        *("legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tr", "ul"),
    }
)
_CELLS = frozenset({"td", "th"})
_MAX_TITLE_CHARS = 300
_SPACES = re.compile(r"[ \t\r\n\f\v\u00a0]+")


_PIECE_BYTES = 8 * 1024
"""Parsed before other tasks run again: a few milliseconds."""
_MAX_DEPTH = 1000
"""Each end tag is searched for among the open elements, so depth is bounded; deeper content is left out. No real page
nests so deeply."""


async def text_of_html(html: str) -> tuple[str, str]:
    """The title and the text of a page; works for any input, however broken."""
    from lxml import etree  # 30 ms to import, and only pages need it

    reader = _Reader()
    parser = etree.HTMLParser(target=reader, encoding="utf-8", remove_comments=True, remove_pis=True)
    # As bytes, since lxml refuses a `str` that declares an encoding.
    page = html.encode("utf-8", "replace")
    try:
        for start in range(0, len(page), _PIECE_BYTES):
            parser.feed(page[start : start + _PIECE_BYTES])
            await asyncio.sleep(0)
        parser.close()
    except (_TooDeep, etree.XMLSyntaxError):
        pass  # a syntax error means that there was no element at all
    lines = [_SPACES.sub(" ", line).strip() for line in "".join(reader.texts).split("\n")]
    title = "".join(reader.titles).strip().partition("\n")[0].strip()
    return title[:_MAX_TITLE_CHARS], "\n".join(line for line in lines if line)


class _TooDeep(Exception):
    """The page is nested deeper than _MAX_DEPTH."""


class _Reader:
    """The parser's target. The parser closes elements that a page leaves open."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.titles: list[str] = []
        self._silent = 0
        self._not_head = 0
        """Number of open silent elements other than `head`; a title inside one is not the page's."""
        self._titles = 0
        self._depth = 0

    def start(self, tag: str, attributes: object) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _TooDeep
        if tag == "title":
            self._titles += 1
        elif tag in _SILENT:
            self._silent += 1
            self._not_head += tag != "head"
        else:
            self._space(tag)

    def end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "title":
            self._titles -= 1
            self.titles.append("\n")
        elif tag in _SILENT:
            self._silent -= 1
            self._not_head -= tag != "head"
        elif tag in _BLOCKS:
            self._space(tag)

    def data(self, text: str) -> None:
        # Line breaks in the source count as spaces; only block elements end a line.
        spaced = _SPACES.sub(" ", text)
        if self._titles:
            if not self._not_head:  # images have titles too
                self.titles.append(spaced)
        elif not self._silent:
            self.texts.append(spaced)

    def close(self) -> None:
        """Required by the parser; nothing to do."""

    def _space(self, tag: str) -> None:
        if not self._silent and tag in _BLOCKS | _CELLS:
            self.texts.append("\n" if tag in _BLOCKS else "\t")
