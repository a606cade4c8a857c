"""Whatever the bytes, an analysis is a value or an AnalysisError; nothing else leaves it."""

from __future__ import annotations

import io
from functools import cache

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.readers.analysis import Analysis, AnalysisError, Limits
from shared.sessions.files.writers.content import FileFormat, RowsContent
from tests.unit.files import documents

LIMITS = Limits(max_text_chars=500, timeout_s=60)


def outcome(data: bytes) -> Analysis | None:
    try:
        analysis = FileAnalyzer(LIMITS).analyze(io.BytesIO(data))
    except AnalysisError:
        return None
    assert len(analysis.text or "") <= 500
    assert "\x00" not in (analysis.text or "")
    (analysis.text or "").encode()  # no lone surrogates: the database would refuse them
    orjson.dumps(dict(analysis.facts))
    return analysis


@cache
def valid(kind: str) -> bytes:
    rows = '<row><c r="A1" t="s"><v>0</v></c><c r="B1" s="1"><v>45351</v></c></row>' * 3
    styles = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
    return {
        "docx": documents.docx(documents.paragraphs("one", "two")),
        "xlsx": documents.xlsx(rows, shared="<si><t>x</t></si>", styles=styles),
        "png": documents.png(3, 4),
        "gif": io.BytesIO(bytes.fromhex("474946383961010001000000002c00000000010001000002024401003b")),
        "tiff": io.BytesIO(
            bytes.fromhex(
                "49492a00080000000200000103000100000005000000000000000000000000000000000000000000"
                "00000000000000000000000000000000000000000000"
            )
        ),
        "jpeg": io.BytesIO(bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc0000b080001000101011100ffd9")),
        "webp": io.BytesIO(bytes.fromhex("524946461a000000574542505650384c0d0000002f00000010071011118888fe0700")),
        "json": io.BytesIO(b'{"a": [1, {"b": null}], "c": "\\u00e9"}'),
        "csv": io.BytesIO(b'a,b\n"x ""y""",2\n3,4\n'),
        "pptx": documents.zipped(
            {
                "ppt/presentation.xml": '<p xmlns:r="urn:r"><sldId id="1" r:id="r1"/></p>',
                "ppt/_rels/presentation.xml.rels": documents.rels(r1="slide slides/slide1.xml"),
                "ppt/slides/slide1.xml": "<sld><sp><p><r><t>one</t></r></p></sp></sld>",
            },
            stored=True,
        ),
        "docx notes": documents.zipped(
            {
                "word/document.xml": '<document><p><r><footnoteReference id="1"/><t>a</t></r></p></document>',
                "word/_rels/document.xml.rels": documents.rels(r1="footnotes footnotes.xml", r2="styles styles.xml"),
                "word/footnotes.xml": '<footnotes><footnote id="1"><p><r><t>n</t></r></p></footnote></footnotes>',
                "word/styles.xml": '<styles><style styleId="a"><basedOn val="a"/></style></styles>',
            },
            stored=True,
        ),
        "eml": io.BytesIO(
            b"From: a@example.org\nTo: b@example.org\nSubject: =?utf-8?q?x=C3=A4?=\nMIME-Version: 1.0\n"
            b'Content-Type: multipart/alternative; boundary="b"\n\n--b\nContent-Type: text/plain; charset=utf-8\n'
            b"Content-Transfer-Encoding: base64\n\neMOkCg==\n--b\nContent-Type: text/html\n\n<p>x</p>\n--b--\n"
        ),
    }[kind].getvalue()


@given(st.binary(min_size=1, max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused_as_a_file(data: bytes) -> None:
    outcome(data)


@given(st.text(min_size=1, max_size=200), st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-8-sig"]))
@settings(max_examples=200, deadline=None)
def test_any_text_in_any_unicode_encoding(text: str, encoding: str) -> None:
    outcome(text.encode(encoding))


@pytest.mark.parametrize(
    "kind", ["docx", "docx notes", "xlsx", "pptx", "eml", "png", "gif", "tiff", "jpeg", "webp", "json", "csv"]
)
@given(changes=st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 255)), max_size=6), cut=st.integers(0, 200))
@settings(max_examples=80, deadline=None)
def test_a_valid_file_with_damage(kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(valid(kind))
    for at, value in changes:
        data[at % len(data)] = value
    outcome(bytes(data[: len(data) - cut % len(data)]))


@pytest.mark.parametrize(("at", "value"), [(0, 0), (300, 0), (400, 255), (500, 60), (600, 62), (5_000, 48)])
def test_a_pdf_with_damage(at: int, value: int) -> None:
    data = bytearray(b"".join(FileGenerator().chunks(RowsContent(["a"], [["b"]]), FileFormat.PDF)))
    data[at : at + 20] = bytes([value]) * 20
    outcome(bytes(data))
    outcome(bytes(data[: len(data) // 2]))


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_as_the_body_of_a_document(body: bytes) -> None:
    outcome(documents.docx(body).getvalue())


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_text_within_the_cells_of_a_workbook(text: str) -> None:
    outcome(documents.xlsx(text.replace("\ud800", ""), shared=f"<si><t>{text}</t></si>").getvalue())


NAMES = st.text(st.characters(categories=["L"]), min_size=1, max_size=8)
CELLS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)


@given(
    st.lists(NAMES, min_size=2, max_size=5), st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=6)
)
@settings(max_examples=80, deadline=None)
def test_a_table_that_we_wrote_has_its_rows_when_read(columns: list[str], rows: list[list[str]]) -> None:
    rows = [row[: len(columns)] for row in rows]
    data = b"".join(FileGenerator().chunks(RowsContent(columns, rows), FileFormat.JSON))
    analysis = outcome(data)
    assert analysis is not None
    assert analysis.facts["items"] == len(rows)
