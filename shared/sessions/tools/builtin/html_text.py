"""The text of an HTML page: what a reader would see, in lines, without what runs or decorates.

Invariant: no page, which is a stranger's, keeps the event loop from others or takes more than in proportion to its
size. libxml2 reads it, a piece at a time: the standard library takes minutes for half a megabyte of open quotes.
"""

from __future__ import annotations

import asyncio
import re

_SILENT = frozenset(["script", "style", "template", "noscript", "svg", "math", "iframe", "object", "head", "select"])
"""Elements whose content nobody reads as text."""
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
"""What is read before others run again: a few milliseconds."""
_MAX_DEPTH = 1000
"""Each end tag is looked for in what is open. No page for people nests so deep; what follows is left out."""


async def text_of_html(html: str) -> tuple[str, str]:
    """The title and the text of a page; for any input, however broken."""
    from lxml import etree  # 30 ms, and only for pages

    reader = _Reader()
    parser = etree.HTMLParser(target=reader, encoding="utf-8", remove_comments=True, remove_pis=True)
    # In bytes: a page in a `str` must not declare its encoding.
    page = html.encode("utf-8", "replace")
    try:
        for start in range(0, len(page), _PIECE_BYTES):
            parser.feed(page[start : start + _PIECE_BYTES])
            await asyncio.sleep(0)
        parser.close()
    except (_TooDeep, etree.XMLSyntaxError):
        pass  # an error of syntax is that there was no element at all
    lines = [_SPACES.sub(" ", line).strip() for line in "".join(reader.texts).split("\n")]
    title = "".join(reader.titles).strip().partition("\n")[0].strip()
    return title[:_MAX_TITLE_CHARS], "\n".join(line for line in lines if line)


class _TooDeep(Exception):
    """The page nests beyond what is read."""


class _Reader:
    """What the parser tells, element by element; it closes what a page leaves open."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.titles: list[str] = []
        self._silent = 0
        self._not_head = 0
        """How many of those that are open are not the page's head, whose title is wanted."""
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
        # Line breaks of the source are spaces; only blocks end a line.
        spaced = _SPACES.sub(" ", text)
        if self._titles:
            if not self._not_head:  # images have titles too
                self.titles.append(spaced)
        elif not self._silent:
            self.texts.append(spaced)

    def close(self) -> None:
        """Nothing is left to tell."""

    def _space(self, tag: str) -> None:
        if not self._silent and tag in _BLOCKS | _CELLS:
            self.texts.append("\n" if tag in _BLOCKS else "\t")
