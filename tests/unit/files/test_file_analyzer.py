"""What an analysis says about honest files."""

from __future__ import annotations

import io
import tempfile

import pytest

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.readers.analysis import Analysis, AnalysisError, Limits
from shared.sessions.models import FileKind
from tests.unit.files import documents


def analyze(data: bytes | io.BytesIO, **limits: float) -> Analysis:
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    return FileAnalyzer(Limits(**limits)).analyze(file)  # type: ignore[arg-type]  # ints and one float


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"Just a sentence.", FileKind.TEXT),
        (b"#!/usr/bin/env python\n# a comment\nimport os\n\n- **x**\n", FileKind.TEXT),
        (b"a, b = 1, 2\nprint(a)\n", FileKind.TEXT),
        (b"Dear all, hello.\nToday, nothing.\n", FileKind.TEXT),
        (b"[section]\nkey = value\n", FileKind.TEXT),
        (b"# Title\n\nSome **bold** words.\n", FileKind.MARKDOWN),
        (b'{"a": [1, 2]}', FileKind.JSON),
        (b" [] ", FileKind.JSON),
        (b"name,age\nAda,36\nAlan,41\n", FileKind.CSV),
        (b'name;age\n"Ada; B";36\n', FileKind.CSV),
        (b"a\tb\n1\t2\n", FileKind.CSV),
        (b"BM is how this text begins, nothing more", FileKind.TEXT),
        (bytes(range(256)) * 8, FileKind.BINARY),
        (b"MZ\x90\x00\x03\x00\x00\x00", FileKind.BINARY),
    ],
)
def test_the_kind_comes_from_the_content(data: bytes, kind: FileKind) -> None:
    assert analyze(data).kind is kind


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_text_is_read_in_every_unicode_encoding(encoding: str) -> None:
    assert analyze("Grüße und Küsse\nzweite Zeile\n".encode(encoding)).text == "Grüße und Küsse\nzweite Zeile\n"


def test_a_guessed_encoding_carries_a_warning() -> None:
    text = "Les élèves français étudient à l'école près de la forêt, où il fait très chaud en été. " * 10
    analysis = analyze(text.encode("cp1252"))
    assert analysis.text == text
    assert any("encoding" in warning for warning in analysis.warnings)


def test_long_text_is_cut_with_a_warning() -> None:
    analysis = analyze(b"word " * 100, max_text_chars=50)
    assert analysis.text == "word " * 10
    assert analysis.facts["characters"] == 500
    assert analysis.warnings == ("Only the first 50 characters of text were kept.",)


def test_text_never_holds_nul() -> None:
    text = analyze("a\x00b, and some more text".encode("utf-16")).text
    assert text == "ab, and some more text"


def test_json_facts_tell_shape_and_depth() -> None:
    facts = analyze(b'{"a": {"b": [1, null]}, "c": "]]]]"}').facts
    assert (facts["type"], facts["keys"], facts["depth"]) == ("object", ["a", "c"], 3)


def test_broken_json_is_plain_text_with_a_warning() -> None:
    analysis = analyze(b'{"a": oops}')
    assert analysis.kind is FileKind.TEXT
    assert "line 1" in analysis.warnings[0]


def test_csv_facts_tell_columns_and_types() -> None:
    facts = analyze(b"name,age,born,rate\nAda,36,1815-12-10,1.5\nAlan,41,1912-06-23,2\n").facts
    assert (facts["rows"], facts["has_header"], facts["delimiter"]) == (2, True, "comma")
    assert [(column["name"], column["type"]) for column in facts["columns"]] == [
        ("name", "text"),
        ("age", "integer"),
        ("born", "date"),
        ("rate", "number"),
    ]


def test_workbook_gives_rows_types_and_dates() -> None:
    rows = (
        '<row><c r="A1" t="s"><v>0</v></c><c r="C1" t="inlineStr"><is><t>when</t></is></c></row>'
        '<row><c r="A2"><v>4.5</v></c><c r="C2" s="1"><v>45351</v></c></row>'
    )
    styles = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
    analysis = analyze(documents.xlsx(rows, shared="<si><t>größe</t></si>", styles=styles))
    assert analysis.kind is FileKind.XLSX
    assert analysis.text == "## Data\ngröße\t\twhen\n4.5\t\t2024-02-29\n"  # 45351 days after 1899-12-30
    assert [column["type"] for column in analysis.facts["sheets"][0]["columns"]] == ["number", "empty", "date"]


def test_word_document_gives_text_headings_and_tables() -> None:
    body = (
        '<w:document xmlns:w="urn:w"><w:body>'
        '<w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>Über</w:t></w:r></w:p>'
        "<w:p><w:r><w:t>one</w:t><w:tab/><w:t>two</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
        "<w:p><w:r><w:instrText>HYPERLINK</w:instrText></w:r></w:p></w:body></w:document>"
    )
    analysis = analyze(documents.docx(body))
    assert analysis.kind is FileKind.DOCX
    assert (analysis.text or "").split() == ["##", "Über", "one", "two", "cell"]
    assert analysis.facts["tables"] == 1


def test_image_gives_its_size_without_being_decoded() -> None:
    analysis = analyze(documents.png(640, 480))
    assert (analysis.media_type, analysis.text) == ("image/png", None)
    assert (analysis.facts["width"], analysis.facts["height"]) == (640, 480)


def test_pdf_gives_text_of_its_pages() -> None:
    file = documents.pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        documents.pdf_stream(b"BT /F 12 Tf (Hello there) Tj ET"),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    analysis = analyze(file)
    assert (analysis.kind, analysis.text, analysis.facts["pages"]) == (FileKind.PDF, "Hello there", 1)


def test_empty_file_is_refused() -> None:
    with pytest.raises(AnalysisError, match="empty"):
        analyze(b"")


@pytest.mark.parametrize("data", [b"PK\x03\x04 and no archive", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7\nnothing"])
def test_damaged_files_are_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(AnalysisError, match=r"(?i)damaged|no pages"):
        analyze(data)


@pytest.mark.parametrize("max_size", [10, 10_000_000])
async def test_a_spooled_file_stays_open_and_the_callers(max_size: int) -> None:
    with tempfile.SpooledTemporaryFile(max_size) as file:
        file.write(b"a,b\n1,2\n")
        analysis = await FileAnalyzer().analyze_async(file, "ann")  # type: ignore[arg-type]  # typeshed: not quite a BinaryIO
        assert analysis.kind is FileKind.CSV
        file.seek(0)
        assert file.read() == b"a,b\n1,2\n"
