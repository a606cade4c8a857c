"""PowerPoint presentations: the text of every slide with its title, tables, speaker notes and comments.

Invariant: slides are streamed one after the other, in the order of the presentation; images, media and embedded objects
are never opened.
"""

from __future__ import annotations

from shared.sessions.files.readers.analysis import Analysis, Job, TextSink, too_large
from shared.sessions.files.readers.relations import relations
from shared.sessions.files.readers.zipped import Archive, holds_part
from shared.sessions.models import FileKind

_PRESENTATION = "ppt/presentation.xml"
_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_MAX_SLIDES = 2_000
_UNSEEN_PLACEHOLDERS = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})  # the same on every page, or no text
_IMAGES = frozenset({"blip", "chart", "relIds", "oleObj", "videoFile", "audioFile"})


class PptxStrategy:
    def recognise(self, job: Job) -> bool:
        return holds_part(job, _PRESENTATION)

    def analyze(self, job: Job) -> Analysis:
        archive = Archive(job)
        sink = TextSink(job.limits.max_text_chars)
        slides = _slides(archive)
        images = hidden = comments = 0
        for number, part in enumerate(slides, start=1):
            slide = _Shapes(TextSink(job.limits.max_text_chars))
            archive.parse(part, start=slide.start, end=slide.end, data=slide.data)
            images += slide.images
            hidden += slide.is_hidden
            title = " ".join(slide.title.text().split())
            sink.add(f"## Slide {number}{' (hidden)' if slide.is_hidden else ''}{': ' if title else ''}{title}\n")
            sink.add(slide.sink.text())
            comments += _add_linked(archive, part, sink)
            if sink.is_cut:
                break
        warnings = []
        if images:
            warnings.append(f"{images} images or objects were not read.")
        if hidden:
            warnings.append(f"{hidden} hidden {'slide was' if hidden == 1 else 'slides were'} read, too.")
        facts = {"size_bytes": job.size_bytes, "slides": len(slides)} | ({"comments": comments} if comments else {})
        return Analysis(FileKind.PPTX, _MEDIA_TYPE, sink.text(), facts, (*warnings, *sink.warnings()))


def _slides(archive: Archive) -> list[str]:
    """The slides' parts in the order of the presentation."""
    keys: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "sldId":
            if len(keys) >= _MAX_SLIDES:
                raise too_large(f"The presentation has more than {_MAX_SLIDES} slides.")
            keys.append(attributes.get("id", ""))

    archive.parse(_PRESENTATION, start=start)
    parts = {relation.id: relation.part for relation in relations(archive, _PRESENTATION) if relation.kind == "slide"}
    ordered = [parts[key] for key in keys if key in parts]
    # Names come without prefix, so an `id` after the `r:id` hides it; then the order of the relations has to do.
    return ordered or list(parts.values())


def _add_linked(archive: Archive, slide: str, sink: TextSink) -> int:
    """Speaker notes and comments of a slide; returns the number of comments."""
    count = 0
    for relation in relations(archive, slide):
        if relation.kind not in ("notesSlide", "comments"):
            continue
        shapes = _Shapes(TextSink(sink.room), is_comment=relation.kind == "comments")
        archive.parse(relation.part, start=shapes.start, end=shapes.end, data=shapes.data)
        text = shapes.sink.text().strip()
        if text:
            sink.add(f"{'Notes' if relation.kind == 'notesSlide' else 'Comments'}: {text}\n")
        count += shapes.comments
    return count


class _Shapes:
    """Callbacks of one pass over a slide, its notes or its comments. A paragraph is a line, a table row has tabs."""

    def __init__(self, sink: TextSink, *, is_comment: bool = False) -> None:
        self.sink, self.title = sink, TextSink(500)
        self.images = self.comments = 0
        self.is_hidden = False
        self._is_comment = is_comment
        self._skipped = 0
        self._placeholder = ""
        self._in_text = self._has_text = False
        self._cells: int | None = None  # begun in the open table row
        self._choices: list[bool] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._skipped:
            self._skipped += 1
        elif (tag == "Fallback" and self._choices and self._choices[-1]) or (
            tag == "fld" and attributes.get("type") == "slidenum"
        ):
            self._skipped = 1
        elif tag == "AlternateContent":
            self._choices.append(False)
        elif tag == "Choice" and self._choices:
            self._choices[-1] = True
        elif tag == "sld":
            self.is_hidden = attributes.get("show") in ("0", "false")
        elif tag == "sp":
            self._placeholder = ""
        elif tag == "ph":
            self._placeholder = attributes.get("type", "body")
        elif tag in ("t", "text"):
            self._in_text = True
        elif tag == "br":
            self._write("\n" if self._cells is None else " ")
        elif tag == "tr":
            self._cells = 0
        elif tag == "tc" and self._cells is not None:
            if self._cells:
                self.sink.add("\t")
            self._cells += 1
            self._has_text = False
        elif tag in ("cm", "comment"):
            self.comments += self._is_comment
        elif tag in _IMAGES:
            self.images += 1

    def end(self, tag: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif tag == "AlternateContent" and self._choices:
            self._choices.pop()
        elif tag in ("t", "text"):
            self._in_text = False
            if tag == "text":
                self._end_paragraph()
        elif tag == "p":
            self._end_paragraph()
        elif tag == "tr":
            self._cells = None
            self.sink.add("\n")
            self._has_text = False
        elif tag == "sp":
            self._placeholder = ""

    def data(self, text: str) -> None:
        if self._in_text and not self._skipped:
            self._write(text)

    def _write(self, text: str) -> None:
        if self._placeholder in _UNSEEN_PLACEHOLDERS:
            return
        self._has_text = True
        (self.title if self._placeholder in ("title", "ctrTitle") else self.sink).add(text)

    def _end_paragraph(self) -> None:
        if not self._has_text:
            return
        if self._cells is not None:
            self.sink.add(" ")
            return
        (self.title if self._placeholder in ("title", "ctrTitle") else self.sink).add("\n")
        self._has_text = False
