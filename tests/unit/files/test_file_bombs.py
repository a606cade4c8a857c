"""Hostile files: each ends in a clear refusal, with little memory used on the way."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import pytest

from shared.errors import InvalidInput
from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.readers.analysis import AnalysisError, Limits
from tests.unit.files import documents

MIB = 1024 * 1024
LIMITS = Limits(timeout_s=60)


def false_claim() -> io.BytesIO:
    """An archive whose directory says 10 bytes where 40 MiB come out."""
    data = bytearray(documents.docx(b"<a>" + b" " * (40 * MIB) + b"</a>").getvalue())
    entry = data.index(b"PK\x01\x02")
    struct.pack_into("<L", data, entry + 24, 10)
    return io.BytesIO(bytes(data))


def honest_claim() -> io.BytesIO:
    return documents.zipped({"word/document.xml": "<a/>", "media": bytes(200 * MIB)})


def many_entries() -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(60_000):
            archive.writestr(f"{number:05}", b"")
    return out


def endless_tag() -> io.BytesIO:
    return documents.zipped({"word/document.xml": b"<a b='" + b"x" * (3 * MIB)}, stored=True)


def shared_text_in_every_cell() -> io.BytesIO:
    """One long text, to which 2 000 cells of each row refer."""
    rows = "<row>" + '<c t="s"><v>0</v></c>' * 2_000 + "</row>"
    return documents.xlsx(rows * 20, shared=f"<si><t>{'x' * 4_000_000}</t></si>", stored=True)


def note_bomb() -> io.BytesIO:
    """A small body whose footnotes unpack to 90 MiB."""
    return documents.zipped(
        {
            "word/document.xml": "<document/>",
            "word/_rels/document.xml.rels": documents.rels(a="footnotes footnotes.xml"),
            "word/footnotes.xml": b"<a>" + b" " * (90 * MIB) + b"</a>",
        }
    )


def slide_entities() -> io.BytesIO:
    return documents.zipped({"ppt/presentation.xml": LAUGHS})


def comment_bomb() -> io.BytesIO:
    parts = {
        "xl/worksheets/_rels/sheet1.xml.rels": documents.rels(a="comments ../comments1.xml"),
        "xl/comments1.xml": "<a>" * 100_000,
    }
    return documents.xlsx("<row/>", parts=parts)


def endless_parts() -> io.BytesIO:
    head = b"From: a@example.org\nTo: b@example.org\nSubject: x\nContent-Type: multipart/mixed; boundary=b\n\n"
    return io.BytesIO(head + b"--b\n\nx\n" * 100_000)


def endless_head() -> io.BytesIO:
    head = b"From: a@example.org\nTo: b@example.org\nSubject: x\nMIME-Version: 1.0\n"
    return io.BytesIO(head + b"X-Trace: " + b"y" * (20 * MIB) + b"\n\nbody")


def pdf_page_loop() -> io.BytesIO:
    return documents.pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>")


def pdf_endless_pages() -> io.BytesIO:
    """Ten levels of ten references to the next: 10^10 pages out of a dozen objects."""
    levels = [b"<</Type/Pages/Count 10000000000/Kids[%s]>>" % (b"%d 0 R " % (n + 1) * 10) for n in range(2, 12)]
    return documents.pdf(b"<</Type/Catalog/Pages 2 0 R>>", *levels, b"<</Type/Page/MediaBox[0 0 9 9]>>")


def pdf_stream_bomb() -> io.BytesIO:
    packed = zlib.compress(zlib.compress(b"(x) Tj " * (100 * MIB // 7), 9), 9)
    return documents.pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
        documents.pdf_stream(packed, b"/Filter[/FlateDecode/FlateDecode]"),
    )


LAUGHS = b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><a>&b;</a>'
REFUSED: dict[str, tuple[Callable[[], io.BytesIO], str]] = {
    "a file beyond the size": (lambda: io.BytesIO(bytes(26 * MIB)), "bytes"),
    "zip that lies about its size": (false_claim, "damaged|compressed|unpacks"),
    "zip with much inside": (honest_claim, "unpacks"),
    "docx compressed too well": (lambda: documents.docx(b"<a>" + b" " * (90 * MIB) + b"</a>"), "compressed"),
    "zip with endless entries": (many_entries, "entries"),
    "xml entities": (lambda: documents.docx(LAUGHS), "document type"),
    "xml too deep": (lambda: documents.docx("<a>" * 100_000), "nested"),
    "xml with endless names": (lambda: documents.docx(f"<a>{''.join(f'<n{n}/>' for n in range(9_000))}</a>"), "names"),
    "xml with one endless tag": (endless_tag, "tag"),
    "sheet with endless rows": (lambda: documents.xlsx("<row/>" * 200_001, stored=True), "rows"),
    "sheet with endless columns": (lambda: documents.xlsx('<row><c r="XFD1"><v>1</v></c></row>'), "columns"),
    "workbook with endless texts": (lambda: documents.xlsx("", shared="<si/>" * 500_001, stored=True), "characters"),
    "table with endless rows": (lambda: io.BytesIO(b"1,2\n" * 200_001), "rows"),
    "table with endless columns": (lambda: io.BytesIO((b"1," * 3_000 + b"1\n") * 2), "columns"),
    "table with one endless row": (lambda: io.BytesIO(b"a,b\n" * 60 + b'"\n",' * 2_000_000), "row"),
    "json too deep": (lambda: io.BytesIO(b"[" * 2_000_000 + b"]" * 2_000_000), "values|nested"),
    "json nested a little too deep": (lambda: io.BytesIO(b"[" * 200 + b"]" * 200), "nested"),
    "json of a million lists": (lambda: io.BytesIO(b"[" + b"[]," * 1_000_000 + b"[]]"), "values"),
    "image of a gigapixel": (lambda: documents.png(40_000, 40_000), "pixels"),
    "image beyond the limit": (lambda: documents.png(10_000, 10_000), "pixels"),
    "notes compressed too well": (note_bomb, "compressed"),
    "xml entities in a presentation": (slide_entities, "document type"),
    "comments nested too deep": (comment_bomb, "nested"),
    "message with endless parts": (endless_parts, "parts"),
    "message with an endless head": (endless_head, "head"),
    "pdf whose pages hold each other": (pdf_page_loop, "(?i)damaged|pages|memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_is_refused_and_never_memory(name: str) -> None:
    build, reason = REFUSED[name]
    file = build()
    tracemalloc.start()
    try:
        with pytest.raises(AnalysisError, match=reason) as caught:
            FileAnalyzer(LIMITS).analyze(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(caught.value, InvalidInput)
    assert peak < 48 * MIB


def test_cells_that_share_one_long_text_cost_it_once() -> None:
    file = shared_text_in_every_cell()
    tracemalloc.start()
    try:
        analysis = FileAnalyzer(LIMITS).analyze(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(analysis.text or "") == LIMITS.max_text_chars
    assert peak < 48 * MIB


@pytest.mark.parametrize("build", [pdf_endless_pages, pdf_stream_bomb])
def test_a_pdf_without_end_is_stopped_in_its_own_process(build: Callable[[], io.BytesIO]) -> None:
    with pytest.raises(AnalysisError, match=r"(?i)memory|longer|unpacks|pages"):
        FileAnalyzer(Limits(timeout_s=5)).analyze(build())


def test_analysis_ends_when_its_time_is_over() -> None:
    with pytest.raises(AnalysisError, match="longer than 0 s"):
        FileAnalyzer(Limits(timeout_s=0)).analyze(io.BytesIO(b"some text"))


@pytest.mark.parametrize(
    "data",
    [
        b"# a\n**b**\n# " + b" " * 190_000 + b"x",
        b"# a\n**b**\n" + b"\n" * 190_000,
        b"# a\n**b**\n" + b"[" * 190_000,
        b"# a\n**b**\n" + b"|-" * 95_000,
        b'{"a": "' + b"\\" * 190_000 + b"}",
    ],
)
def test_text_made_to_slow_down_a_search_is_read_in_time(data: bytes) -> None:
    FileAnalyzer(Limits(timeout_s=30)).analyze(io.BytesIO(data))
