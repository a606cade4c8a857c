"""The text of one part of a Word document: its body, its notes or comments, a header or a footer.

Invariant: what the reader of the document does not see is not text: deleted and moved-away runs, field codes, tab
stops, phonetic guides, and the second copy of a drawing for older programs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.sessions.files.readers.analysis import TextSink
from shared.sessions.files.readers.docx_styles import BODY_LEVEL, DEEPEST_HEADING, Styles, outline_level

_UNSEEN = frozenset({"del", "moveFrom", "rt", "tabs", "pPrChange", "rPrChange", "sectPrChange", "tblPrChange"})
_DELETIONS = frozenset({"del", "moveFrom"})
_IMAGES = frozenset({"blip", "imagedata", "OLEObject", "chart", "altChunk", "relIds"})
_SYMBOLS = {  # of Wingdings and Symbol, which Word stores in the private use area
    0xFC: "✓", 0xFB: "✗", 0xFE: "☑", 0xFD: "☒", 0xA8: "☐", 0x6F: "☐", 0xE0: "→", 0xDF: "←", 0xB7: "•", 0xA7: "▪",
    0x4A: "☺", 0xD8: "➢", 0x61: "α", 0x62: "β", 0x6D: "μ", 0x70: "π", 0x57: "Ω", 0x44: "Δ", 0xB0: "°", 0xB1: "±",
    0xB3: "≥", 0xA3: "≤",
}  # fmt: skip
_MAX_REFERENCES = 20_000
_MAX_OPEN_COMMENTS = 50
_MAX_QUOTED_CHARS = 80
_MAX_AUTHOR_CHARS = 100


@dataclass(slots=True)
class References:
    """What the body says about its notes: their numbers in order, and the words that comments are about."""

    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    quoted: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def number(self, kind: str, key: str) -> int:
        if (kind, key) not in self.numbers and len(self.numbers) < _MAX_REFERENCES:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.numbers[(kind, key)] = self.counts[kind]
        return self.numbers.get((kind, key), 0)


@dataclass(slots=True)
class _Paragraph:
    """prefix: written before its first text. is_listed, level: its own, which win over those of its style."""

    style: str = ""
    level: int | None = None
    is_listed: bool | None = None
    depth: int = 0
    prefix: str | None = None


@dataclass(slots=True)
class _Box:
    """A text box: its text follows the paragraph that it hangs on."""

    sink: TextSink
    rows: list[int]
    paragraphs: list[_Paragraph]


class Story:
    """Callbacks of one pass. A paragraph becomes a line, and a table row becomes one line with tabs.

    max_chars: of one text box. notes: the kind of notes of this part, each of which becomes one line.
    """

    def __init__(
        self,
        sink: TextSink,
        styles: Styles,
        references: References,
        *,
        max_chars: int,
        notes: str = "",
        title: str = "",
    ) -> None:
        self.sink = sink
        self.paragraphs = self.tables = self.images = self.chars = 0
        self.deletions = self.hidden_runs = self.notes_written = 0
        self._styles, self._references, self._max_chars = styles, references, max_chars
        self._notes, self._title = notes, title
        self._in_text = False
        self._skipped = 0  # depth within an unseen element
        self._in_properties = 0
        self._choices: list[bool] = []  # per alternative content: whether its first choice was read
        self._paragraph = _Paragraph()
        self._outer: list[_Paragraph] = []
        self._rows: list[int] = []  # cells begun, per table row that is open
        self._needs_space = False
        self._boxes: list[_Box] = []
        self._finished_boxes: list[str] = []
        self._quotes: dict[str, str] = {}
        self._note_prefix = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._skipped:
            self._skipped += 1
            return
        if tag in _UNSEEN or (tag == "Fallback" and self._choices and self._choices[-1]):
            self._skipped = 1
            self.deletions += tag in _DELETIONS
            return
        if tag in ("pPr", "rPr", "tblPr", "tcPr", "trPr", "sectPr"):
            self._in_properties += 1
        elif self._in_properties:
            self._property(tag, attributes)
        elif tag == "t":
            self._in_text = True
        elif tag == "p":
            self._begin_paragraph()
        elif tag in ("tbl", "tr", "tc"):
            self._begin_table_part(tag)
        elif tag == "txbxContent":
            self._boxes.append(_Box(self.sink, self._rows, self._outer))
            self._outer = [self._paragraph]
            self.sink, self._rows = TextSink(self._max_chars), []
        elif tag == "AlternateContent":
            self._choices.append(False)
        elif tag == "Choice" and self._choices:
            self._choices[-1] = True
        else:
            self._inline(tag, attributes)

    def end(self, tag: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif tag in ("pPr", "rPr", "tblPr", "tcPr", "trPr", "sectPr"):
            self._in_properties -= 1
        elif self._in_properties:
            pass
        elif tag == "t":
            self._in_text = False
        elif tag == "p":
            self._end_paragraph()
        elif tag == "tr" and self._rows:
            self._rows.pop()
            self._needs_space = bool(self._rows) and self._needs_space
            if not self._rows:
                self._end_line()
        elif tag == "txbxContent" and self._boxes:
            self._end_box()
        elif tag == "AlternateContent" and self._choices:
            self._choices.pop()
        elif tag in ("footnote", "endnote", "comment") and self._notes:
            self._end_note()

    def data(self, text: str) -> None:
        if self._in_text and not self._skipped:
            self._write(text)

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._note_prefix:
            if not self.notes_written:
                self.sink.add(f"{self._title}:\n")
            self.notes_written += 1
            self.sink.add(self._note_prefix)
            self._note_prefix = ""
        if self._needs_space:
            self.sink.add(" ")
            self._needs_space = False
        if self._paragraph.prefix is None:
            self._paragraph.prefix = "" if self._notes else self._prefix()
            self.sink.add(self._paragraph.prefix)
        self.chars += len(text)
        self.sink.add(text)
        for key, quoted in self._quotes.items():
            if len(quoted) < _MAX_QUOTED_CHARS:
                self._quotes[key] = quoted + text[:_MAX_QUOTED_CHARS]

    def _prefix(self) -> str:
        paragraph = self._paragraph
        level = self._styles.heading(paragraph.style)
        if paragraph.level is not None:
            level = min(paragraph.level + 1, DEEPEST_HEADING) if paragraph.level < BODY_LEVEL else 0
        if level and not self._rows:
            return "#" * level + " "
        listed = self._styles.is_list(paragraph.style) if paragraph.is_listed is None else paragraph.is_listed
        return "  " * min(paragraph.depth, 8) + "- " if listed else ""

    def _property(self, tag: str, attributes: dict[str, str]) -> None:
        value = attributes.get("val", "")
        if tag == "pStyle":
            self._paragraph.style = value
        elif tag == "outlineLvl":
            self._paragraph.level = outline_level(value)
        elif tag == "numPr":
            self._paragraph.is_listed = True
        elif tag == "numId" and value == "0":
            self._paragraph.is_listed = False
        elif tag == "ilvl":
            self._paragraph.depth = outline_level(value) or 0
        elif tag == "vanish" and value.lower() not in ("0", "false", "off"):
            self.hidden_runs += 1

    def _inline(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in ("tab", "ptab"):
            self._write("\t" if not self._rows else " ")
        elif tag in ("br", "cr"):
            self._write("\n" if not (self._rows or self._notes) else " ")
        elif tag == "noBreakHyphen":
            self._write("\u2011")
        elif tag == "sym":
            self._write(_symbol(attributes.get("char", "")))
        elif tag in ("footnoteReference", "endnoteReference"):
            kind = tag.removesuffix("Reference") + "s"
            self._write(_mark(kind, self._references.number(kind, attributes.get("id", ""))))
        elif tag == "commentRangeStart" and len(self._quotes) < _MAX_OPEN_COMMENTS:
            self._quotes[attributes.get("id", "")] = ""
        elif tag == "commentRangeEnd":
            quoted = self._quotes.pop(attributes.get("id", ""), "")
            if len(self._references.quoted) < _MAX_REFERENCES:
                self._references.quoted[attributes.get("id", "")] = " ".join(quoted.split())[:_MAX_QUOTED_CHARS]
        elif tag in ("footnote", "endnote", "comment") and self._notes:
            self._begin_note(attributes)
        elif tag in _IMAGES:
            self.images += 1

    def _begin_paragraph(self) -> None:
        self.paragraphs += 1
        self._outer.append(self._paragraph)
        self._paragraph = _Paragraph()

    def _end_paragraph(self) -> None:
        if self._rows or self._notes:
            self._needs_space = self._needs_space or self._paragraph.prefix is not None
        else:
            self._end_line()
        self._paragraph = self._outer.pop() if self._outer else _Paragraph()
        if not self._boxes and not self._rows:
            self._write_boxes()

    def _end_line(self) -> None:
        if not self._notes:
            self.sink.add("\n")
        if not self._boxes:
            self._write_boxes()

    def _write_boxes(self) -> None:
        for text in self._finished_boxes:
            self.sink.add(f"{text}\n")
        self._finished_boxes.clear()

    def _end_box(self) -> None:
        text = self.sink.text().strip()
        box = self._boxes.pop()
        self._paragraph = self._outer[0] if self._outer else _Paragraph()
        self.sink, self._rows, self._outer = box.sink, box.rows, box.paragraphs
        if text and sum(map(len, self._finished_boxes)) < self._max_chars:
            self._finished_boxes.append(text)

    def _begin_table_part(self, tag: str) -> None:
        if tag == "tbl":
            self.tables += 1
        elif tag == "tr":
            self._rows.append(0)
        elif self._rows:
            if self._rows[-1]:
                self._needs_space = False
                self.sink.add("\t" if len(self._rows) == 1 else " | ")
            self._rows[-1] += 1

    def _begin_note(self, attributes: dict[str, str]) -> None:
        self._needs_space = False
        key = attributes.get("id", "")
        if self._notes == "comments":
            author = attributes.get("author", "")[:_MAX_AUTHOR_CHARS] or "Comment"
            quoted = self._references.quoted.get(key, "")
            self._note_prefix = f'- {author} on "{quoted}": ' if quoted else f"- {author}: "
        elif attributes.get("type", "normal") == "normal":
            self._note_prefix = f"{_mark(self._notes, self._references.number(self._notes, key))}: "
        else:
            self._skipped = 1  # lines that separate notes from the page

    def _end_note(self) -> None:
        if not self._note_prefix:
            self.sink.add("\n")
        self._note_prefix, self._needs_space = "", False


def _mark(kind: str, number: int) -> str:
    return f"[^{number}]" if kind == "footnotes" else f"[^e{number}]"


def _symbol(code: str) -> str:
    try:
        number = int(code, 16)
    except ValueError:
        return ""
    if 0xF000 <= number <= 0xF0FF:
        return _SYMBOLS.get(number - 0xF000, "")
    return chr(number) if 0x20 <= number < 0xD800 else ""
