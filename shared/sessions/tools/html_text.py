"""The text of an HTML page: what a reader would see, in lines, without what runs or decorates."""

from __future__ import annotations

import re
from html.parser import HTMLParser

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


def text_of_html(html: str) -> tuple[str, str]:
    """The title and the text of a page; for any input, however broken."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = [_SPACES.sub(" ", line).strip() for line in "".join(reader.texts).split("\n")]
    title = "".join(reader.titles).strip().partition("\n")[0].strip()
    return title[:_MAX_TITLE_CHARS], "\n".join(line for line in lines if line)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.titles: list[str] = []
        self._silent: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._silent.clear()  # a head that was never closed ends here, as in browsers
        elif tag == "title":
            self._in_title = True
        elif tag in _SILENT:
            self._silent.append(tag)
        else:
            self._space(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._space(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
            self.titles.append("\n")
        elif tag in self._silent:
            while self._silent.pop() != tag:
                pass
        elif tag in _BLOCKS:
            self._space(tag)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            if self._silent in ([], ["head"]):  # pictures have titles too
                self.titles.append(_SPACES.sub(" ", data))
        elif not self._silent:
            # Line breaks of the source are spaces; only blocks end a line.
            self.texts.append(_SPACES.sub(" ", data))

    def _space(self, tag: str) -> None:
        if not self._silent and tag in _BLOCKS | _CELLS:
            self.texts.append("\n" if tag in _BLOCKS else "\t")
