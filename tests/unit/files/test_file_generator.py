"""What the files that we make hold, and what they never do."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.writers.content import (
    Content,
    ConversationExport,
    FileFormat,
    GenerationError,
    MarkdownContent,
    RowsContent,
    TextContent,
)
from shared.sessions.files.writers.csv import guarded
from shared.sessions.files.writers.pdf.characters import drawable
from shared.sessions.files.writers.pdf.writer import MAX_CHARS
from shared.sessions.models import FileKind, Message, MessageRole
from tests.unit.files import documents

HOSTILE = (
    "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)> "
    "[a](javascript:alert(1)) ![p](http://evil.example/p)"
)


def made(content: Content, file_format: FileFormat) -> bytes:
    return b"".join(FileGenerator().chunks(content, file_format))


def talk() -> ConversationExport:
    messages = [
        documents.message(f"=1+1 {documents.EVERY_SCRIPT}", number=1),
        documents.message(f"# Answer\n\n- **{documents.EVERY_SCRIPT}**\n", MessageRole.ASSISTANT, 2),
        documents.message('{"result": "```"}', MessageRole.TOOL, 3),
    ]
    return ConversationExport(documents.session("Talk 中文"), messages, documents.NOW)


@pytest.mark.parametrize("file_format", list(FileFormat))
def test_conversation_keeps_every_script_in_every_format(file_format: FileFormat) -> None:
    data = made(talk(), file_format)
    text = FileAnalyzer().analyze(io.BytesIO(data)).text or ""
    words = ["Grüße", "Ελλάδα", "Привет", "中文", "ひらがな", "한국어", "😀", "שלום", "مرحبا", "हिन्दी", "🚀"]
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("file_format", "kind"),
    [
        (FileFormat.JSON, FileKind.JSON),
        (FileFormat.MD, FileKind.MARKDOWN),
        (FileFormat.CSV, FileKind.CSV),
        (FileFormat.PDF, FileKind.PDF),
        (FileFormat.DOCX, FileKind.DOCX),
    ],
)
def test_the_analyzer_recognises_what_the_generator_makes(file_format: FileFormat, kind: FileKind) -> None:
    assert FileAnalyzer().analyze(io.BytesIO(made(talk(), file_format))).kind is kind


@pytest.mark.parametrize("file_format", list(FileFormat))
def test_writing_to_a_file_gives_the_same_bytes_as_chunks(file_format: FileFormat) -> None:
    out = io.BytesIO()
    FileGenerator().write(talk(), file_format, out)
    assert out.getvalue() == made(talk(), file_format)


def test_equal_content_gives_equal_bytes_in_every_process() -> None:
    program = (
        "import hashlib; from tests.unit.files.test_file_generator import *;"
        "print([hashlib.sha256(made(talk(), f)).hexdigest() for f in FileFormat])"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": ".", "PYTHONHASHSEED": seed, "TZ": zone},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]
    here = [hashlib.sha256(made(talk(), file_format)).hexdigest() for file_format in FileFormat]
    answers = [process.communicate(timeout=120)[0].strip() for process in running]
    assert answers == [str(here), str(here)]


def test_json_export_is_the_session_and_its_messages() -> None:
    document = json.loads(made(talk(), FileFormat.JSON))
    assert document["session"]["id"] == "s-1"
    assert [message["id"] for message in document["messages"]] == ["m-1", "m-2", "m-3"]


def test_an_empty_conversation_exports_in_every_format() -> None:
    for file_format in FileFormat:
        assert made(ConversationExport(documents.session(None), []), file_format)


def test_messages_are_streamed_not_gathered() -> None:
    def endless() -> Iterator[Message]:
        number = 0
        while True:
            number += 1
            yield documents.message("x" * 1000, number=number)

    for file_format in (FileFormat.JSON, FileFormat.MD, FileFormat.HTML, FileFormat.CSV):
        chunks = FileGenerator().chunks(ConversationExport(documents.session(), endless()), file_format)
        assert sum(len(next(chunks)) for _ in range(5)) > 0


def test_docx_of_a_long_conversation_is_not_held_in_memory() -> None:
    messages = (documents.message("line of text " * 800, number=number) for number in range(2_000))  # 20 MB
    with tempfile.TemporaryFile() as out:
        tracemalloc.start()
        try:
            FileGenerator().write(ConversationExport(documents.session(), messages), FileFormat.DOCX, out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


@given(st.text(max_size=300), st.sampled_from([TextContent, MarkdownContent]))
@settings(max_examples=50, deadline=None)
def test_html_is_inert_whatever_it_holds(text: str, kind: type[TextContent] | type[MarkdownContent]) -> None:
    page = Page()
    page.feed(made(kind(HOSTILE + text + HOSTILE, title=text), FileFormat.HTML).decode())
    assert page.tags.isdisjoint({"script", "img", "a", "link", "iframe", "form", "object", "svg", "base", "video"})
    assert page.attributes <= {"charset", "http-equiv", "content", "name", "dir", "class"}


def test_html_carries_a_policy_that_forbids_loading() -> None:
    page = made(talk(), FileFormat.HTML).decode()
    assert "default-src 'none'" in page
    assert page.index("Content-Security-Policy") < page.index("<title>")
    assert not re.search(r"(src|href)=", page)


@pytest.mark.parametrize("cell", ["=1+1", "+SUM(A1)", "-2+3", "@x", "\t=1", "\r=1", " =1", "|cmd", "＝1", "\n=1"])
def test_no_csv_cell_is_a_formula(cell: str) -> None:
    assert guarded(cell) == "'" + cell


@pytest.mark.parametrize("cell", [-5, "-5", "+49", "1e5", "-1,234.50", 2.5, "plain", "", None, True])
def test_numbers_and_plain_text_stay_as_they_are_in_csv(cell: str | float | None) -> None:
    assert not guarded(cell).startswith("'")


def test_a_word_document_tells_the_direction_of_each_paragraph_cell_and_run() -> None:
    text = "مرحبا **عالم**\n\none **two**\n\n| اسم | b |\n|---|---|\n| أ | c |\n"
    with zipfile.ZipFile(io.BytesIO(made(MarkdownContent(text), FileFormat.DOCX))) as archive:
        body = archive.read("word/document.xml").decode()
    paragraphs = re.findall(r"<w:p>.*?</w:p>", body)
    of = {"".join(re.findall(r"<w:t[^>]*>([^<]*)", paragraph)): paragraph for paragraph in paragraphs}
    assert {words for words, paragraph in of.items() if "<w:pPr><w:bidi/>" in paragraph} == {"مرحبا عالم", "اسم", "أ"}
    assert {words for words, paragraph in of.items() if "<w:rtl/>" in paragraph} == {"مرحبا عالم", "اسم", "أ"}
    assert "<w:rPr><w:b/><w:bCs/><w:rtl/></w:rPr>" in of["مرحبا عالم"]
    assert "<w:tblPr><w:bidiVisual/>" in body


def test_a_page_tells_the_direction_of_each_cell() -> None:
    page = made(RowsContent(["اسم", "b"], [["c", "أ"]]), FileFormat.HTML).decode()
    assert '<table dir="auto">' in page
    assert len(re.findall(r'<t[hd] dir="auto">', page)) == 4


@given(st.lists(st.lists(st.text(max_size=20), min_size=2, max_size=2), max_size=5))
@settings(max_examples=100, deadline=None)
def test_csv_gives_back_every_cell(rows: list[list[str]]) -> None:
    data = made(RowsContent(["a", "b"], rows), FileFormat.CSV).decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(data, newline=""))) == [["a", "b"], *[[guarded(c) for c in row] for row in rows]]


def test_text_that_is_csv_is_guarded_on_its_way() -> None:
    assert made(TextContent("a,b\n=1,2\n"), FileFormat.CSV).decode("utf-8-sig") == "a,b\r\n'=1,2\r\n"


def test_markdown_without_a_table_is_no_csv() -> None:
    with pytest.raises(GenerationError, match="no table"):
        made(MarkdownContent("words"), FileFormat.CSV)


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_text_becomes_a_word_document_that_reads_back(text: str) -> None:
    data = made(MarkdownContent(text, title="T"), FileFormat.DOCX)
    assert FileAnalyzer().analyze(io.BytesIO(data)).kind is FileKind.DOCX


@given(st.text(max_size=60))
@settings(max_examples=5, deadline=None)
def test_any_text_becomes_a_pdf(text: str) -> None:
    assert made(MarkdownContent(text, title=text), FileFormat.PDF).startswith(b"%PDF")
    assert made(RowsContent([text], [[text], []]), FileFormat.PDF).startswith(b"%PDF")


def test_a_row_higher_than_a_page_goes_on_on_the_next() -> None:
    data = made(RowsContent(["short", "long"], [["a", "word " * 4_000], ["end", "last"]]), FileFormat.PDF)
    analysis = FileAnalyzer().analyze(io.BytesIO(data))
    assert analysis.facts["pages"] > 2
    assert (analysis.text or "").count("word") == 4_000
    assert "last" in (analysis.text or "")


@pytest.mark.parametrize("rows", [[["שלום", "abc"]], [["abc", "שלום"]]])
def test_right_to_left_text_stays_so_in_every_cell_of_a_table(rows: list[list[str]]) -> None:
    data = made(RowsContent(["a", "b"], rows), FileFormat.PDF)
    assert "שלום" in (FileAnalyzer().analyze(io.BytesIO(data)).text or "")


def test_a_character_without_a_glyph_is_written_as_its_code() -> None:
    assert drawable("a\u0915\U0001e900b") == "a\u0915[U+1E900]b"


def test_a_pdf_beyond_its_bound_is_refused_with_an_alternative() -> None:
    with pytest.raises(GenerationError, match="docx"):
        made(TextContent("x" * (MAX_CHARS + 1)), FileFormat.PDF)


def test_a_pdf_of_endless_empty_rows_is_refused() -> None:
    with pytest.raises(GenerationError, match="docx"):
        made(RowsContent([str(n) for n in range(20)], iter(lambda: [], None)), FileFormat.PDF)


def test_importing_loads_no_heavy_library() -> None:
    program = (
        "import sys, shared.sessions.files.analyzer, shared.sessions.files.generator;"
        "heavy = ('PIL', 'pypdf', 'typst', 'fontTools', 'markdown_it', 'charset_normalizer', 'chardet');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": "."}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
