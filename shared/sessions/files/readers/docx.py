"""Word documents: the body with headings, lists, tables and text boxes, then notes, comments, headers and footers.

Invariant: every part is read as a stream; images, macros, links and embedded objects are never opened. The text is that
of the document with all its tracked changes accepted: what was deleted is left out, and what was moved stands once.
"""

from __future__ import annotations

from shared.sessions.files.readers.analysis import Analysis, Job, TextSink
from shared.sessions.files.readers.docx_story import References, Story
from shared.sessions.files.readers.docx_styles import Styles, read_styles
from shared.sessions.files.readers.relations import Relation, relations
from shared.sessions.files.readers.zipped import Archive, is_archive
from shared.sessions.models import FileKind

_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_MAX_MARGINS = 100  # parts with headers and footers
_MAX_MARGIN_CHARS = 2_000


class DocxStrategy:
    def recognise(self, job: Job) -> bool:
        return is_archive(job) and _body(Archive(job)) is not None

    def analyze(self, job: Job) -> Analysis:
        archive = Archive(job)
        part = _body(archive) or ""
        linked = relations(archive, part)
        styles = read_styles(archive, [relation.part for relation in linked if relation.kind == "styles"])
        sink, references = TextSink(job.limits.max_text_chars), References()
        body = Story(sink, styles, references, max_chars=job.limits.max_text_chars)
        archive.parse(part, start=body.start, end=body.end, data=body.data)
        facts: dict[str, int] = {
            "size_bytes": job.size_bytes,
            "paragraphs": body.paragraphs,
            "tables": body.tables,
            "characters": body.chars,
        }
        for kind, title in (("footnotes", "Footnotes"), ("endnotes", "Endnotes"), ("comments", "Comments")):
            count = _add_notes(archive, linked, kind, title, sink, styles, references)
            if count:
                facts[kind] = count
        _add_margins(archive, linked, sink, styles)
        return Analysis(FileKind.DOCX, _MEDIA_TYPE, sink.text(), facts, (*_warnings(body, archive), *sink.warnings()))


def _body(archive: Archive) -> str | None:
    """The main part; some programs number it."""
    if "word/document.xml" in archive.names:
        return "word/document.xml"
    named = (relation.part for relation in relations(archive, "") if relation.kind == "officeDocument")
    return next((part for part in named if part.startswith("word/")), None)


def _add_notes(
    archive: Archive,
    linked: list[Relation],
    kind: str,
    title: str,
    sink: TextSink,
    styles: Styles,
    references: References,
) -> int:
    """The notes of one kind, one line each; returns how many there are."""
    notes = Story(sink, styles, references, max_chars=0, notes=kind, title=title)
    for relation in linked:
        if relation.kind == kind:
            archive.parse(relation.part, start=notes.start, end=notes.end, data=notes.data)
    return notes.notes_written


def _add_margins(archive: Archive, linked: list[Relation], sink: TextSink, styles: Styles) -> None:
    """Headers and footers, each text once: most documents have the same one for several kinds of pages."""
    seen: set[tuple[str, str]] = set()
    margins = [relation for relation in linked if relation.kind in ("header", "footer")][:_MAX_MARGINS]
    for relation in sorted(margins, key=lambda relation: relation.kind, reverse=True):
        own = TextSink(_MAX_MARGIN_CHARS)
        story = Story(own, styles, References(), max_chars=_MAX_MARGIN_CHARS)
        archive.parse(relation.part, start=story.start, end=story.end, data=story.data)
        text = " ".join(own.text().split())
        if text and (relation.kind, text) not in seen:
            seen.add((relation.kind, text))
            sink.add(f"{relation.kind.capitalize()}: {text}\n")


def _warnings(body: Story, archive: Archive) -> list[str]:
    found = []
    if body.images:
        found.append(f"{body.images} images or objects were not read.")
    if body.deletions:
        found.append("The document has tracked changes; they were read as accepted.")
    if body.hidden_runs:
        found.append("The document has hidden text; it was read, too.")
    if any(name.endswith("vbaProject.bin") for name in archive.names):
        found.append("The document holds macros; they were not read.")
    return found
