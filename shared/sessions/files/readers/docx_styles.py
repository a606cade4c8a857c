"""What the paragraph styles of a Word document mean: headings and lists, whatever language their names are in.

Invariant: a heading is told first by what all versions of Word write alike: the built-in name of the style (`heading 1`
where the id is `berschrift1`) or its outline level, its own or inherited. Only where a program left these out do the
words count that Word's languages have for a heading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shared.sessions.files.readers.zipped import Archive

_HEADING = re.compile(r"heading\s?([1-9])", re.IGNORECASE)
# As ids have them: without the letters beyond ASCII. Word's East Asian and Cyrillic ids are the number alone.
_HEADING_IDS = re.compile(
    r"(?:heading|[uü]?berschrift|titre|t[ií]?tulo|titolo|kop|rubrik|overskrift|nag[lł]?[oó]?wek|nadpis|c[ií]msor|otsikko"
    r"|ba[sş]?l[iı]?k|titlu|naslov|pealkiri|virsraksts|antra[sš]?t[eė]?|t[ií]tol|ttol|заголовок|επικεφαλίδα|כותרת|عنوان"
    r"|标题|標題|見出し|제목|หัวเรื่อง|đầu đề|u)?[\s-]?([1-6])",
    re.IGNORECASE,
)
_MAX_STYLES = 10_000
_MAX_INHERITANCE = 20
DEEPEST_HEADING = 6  # of Markdown
BODY_LEVEL = 9  # an outline level that means none


@dataclass(slots=True)
class _Style:
    name: str = ""
    based_on: str = ""
    level: int | None = None
    is_list: bool | None = None


@dataclass(slots=True)
class Styles:
    """Paragraph styles by id."""

    _styles: dict[str, _Style] = field(default_factory=dict)

    def heading(self, style: str) -> int:
        """The level of a heading, from 1 to 6; 0 for any other paragraph."""
        for known in self._chain(style):
            named = _HEADING.fullmatch(known.name) or (_HEADING_IDS.fullmatch(known.name) if known.name[1:] else None)
            if named is not None:
                return min(int(named[1]), DEEPEST_HEADING)
            if known.name.lower() == "title":
                return 1
            if known.level is not None:
                return min(known.level + 1, DEEPEST_HEADING) if known.level < BODY_LEVEL else 0
        named = _HEADING_IDS.fullmatch(style) if style not in self._styles else None
        return min(int(named[1]), DEEPEST_HEADING) if named is not None else 0

    def is_list(self, style: str) -> bool:
        return next((known.is_list for known in self._chain(style) if known.is_list is not None), False)

    def _chain(self, style: str) -> list[_Style]:
        found: list[_Style] = []
        while style in self._styles and len(found) < _MAX_INHERITANCE:
            found.append(self._styles[style])
            style = found[-1].based_on
        return found


def read_styles(archive: Archive, parts: list[str]) -> Styles:
    styles: dict[str, _Style] = {}
    current = _Style()

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal current
        value = attributes.get("val", "")
        if tag == "style":
            current = _Style()
            if len(styles) < _MAX_STYLES and attributes.get("type", "paragraph") == "paragraph":
                styles[attributes.get("styleId", "")] = current
        elif tag == "name":
            current.name = value[:100]
        elif tag == "basedOn":
            current.based_on = value
        elif tag == "outlineLvl":
            current.level = outline_level(value)
        elif tag == "numPr":
            current.is_list = True
        elif tag == "numId" and value == "0":
            current.is_list = False

    for part in parts:
        archive.parse(part, start=start)
    return Styles(styles)


def outline_level(value: str) -> int | None:
    return int(value) if len(value) == 1 and value.isascii() and value.isdigit() else None
