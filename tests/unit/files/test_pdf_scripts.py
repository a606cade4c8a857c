"""What a reader sees of a PDF in every script: the text that programs extract, the glyphs, their places, the page."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pypdfium2
import pytest

from devtools.fonts import FONTS, coverage
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.writers.content import (
    Content,
    FileFormat,
    GenerationError,
    MarkdownContent,
    RowsContent,
    TextContent,
)
from shared.sessions.files.writers.pdf import characters, child, readback, writer

SAMPLES = {
    "Latin": "Grüße, Łódź, tiếng Việt, naïve",
    "Greek": "Ελλάδα",
    "Cyrillic": "Привет",
    "Armenian": "Հայերեն",
    "Georgian": "ქართული",
    "Hebrew": "שלום עולם, שָׁלוֹם! (ירושלים) כאן",
    "Arabic": "مرحبا بالعالم، السلام عليكم",
    "Persian": "سلام دنیا می‌خواهم",
    "Urdu": "اردو زبان",
    "Devanagari": "हिन्दी में लिखा क्षत्रिय र्क",
    "Bengali": "বাংলা ভাষা ক্ষমতা",
    "Gurmukhi": "ਪੰਜਾਬੀ ਭਾਸ਼ਾ",
    "Gujarati": "ગુજરાતી ભાષા",
    "Odia": "ଓଡ଼ିଆ ଭାଷା",
    "Tamil": "தமிழ் மொழி",
    "Telugu": "తెలుగు భాష",
    "Kannada": "ಕನ್ನಡ ಭಾಷೆ",
    "Malayalam": "മലയാളം ഭാഷ",
    "Sinhala": "සිංහල භාෂාව ශ්‍රී",
    "Thai": "ภาษาไทยไม่มีช่องว่าง ที่นี่",
    "Lao": "ພາສາລາວ",
    "Khmer": "ភាសាខ្មែរ ស្ត្រី",
    "Burmese": "မြန်မာဘာသာ",
    "Tibetan": "བོད་སྐད་",
    "Ethiopic": "አማርኛ",
    "Chinese": "中文字符，简体與繁體",
    "Japanese": "日本語のひらがなとカタカナ、𠮷野家",
    "Korean": "한국어 문장",
    "Emoji": "😀🚀 👩‍👩‍👧‍👦 👍🏽 🇩🇪🇯🇵 ❤️ 1️⃣ 🏳️‍🌈 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "Symbols": "→⇒✓✗★ ∑∫√≠ │┌─ ⠓⠑ 𝔄𝒳",
}
UNKNOWN = "\U0001e900"  # a letter of Adlam, which no font here has
MARGIN = 51  # 18 mm in points


def made(content: Content) -> bytes:
    return b"".join(FileGenerator().chunks(content, FileFormat.PDF))


def bare(text: str) -> str:
    """Without spaces, which stand where lines break, and where glyphs are set apart."""
    return unicodedata.normalize("NFC", "".join(text.split()))


def extracted(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)


def glyphs(pdf: bytes) -> Iterator[tuple[str, int]]:
    """Font and glyph of everything that the pages show; 0 is the sign of a missing one."""
    for page in pypdf.PdfReader(io.BytesIO(pdf)).pages:
        font = ""
        contents = page.get_contents()
        assert contents is not None
        for operands, operator in contents.operations:
            if operator == b"Tf":
                font = operands[0]
            elif operator in {b"Tj", b"TJ"}:
                shown = operands[0] if operator == b"TJ" else [operands[0]]
                codes = b"".join(part.original_bytes for part in shown if hasattr(part, "original_bytes"))
                yield from ((font, glyph) for glyph in _named(page, font, codes))


def _named(page: pypdf.PageObject, font: str, codes: bytes) -> list[int]:
    resource = page["/Resources"]["/Font"][font]  # type: ignore[index]
    if resource["/Subtype"] == "/Type3":
        return [code + 1 for code in codes]  # it has no glyph for what is missing
    below = resource["/DescendantFonts"][0]
    mapped = below.get("/CIDToGIDMap", "/Identity")
    table = None if mapped == "/Identity" else mapped.get_data()
    found = [int.from_bytes(codes[at : at + 2], "big") for at in range(0, len(codes), 2)]
    return [code if table is None else int.from_bytes(table[2 * code : 2 * code + 2], "big") for code in found]


def pictures(pdf: bytes) -> list[bytes]:
    return [bytes(page.render(scale=1.5).buffer) for page in pypdfium2.PdfDocument(pdf)]


def right_edge(pdf: bytes) -> float:
    """The rightmost place of a character, in points."""
    edges = [0.0]
    for page in pypdfium2.PdfDocument(pdf):
        text = page.get_textpage()
        edges += [text.get_charbox(number)[2] for number in range(text.count_chars())]
    return max(edges)


def document(*texts: str) -> str:
    """What the child process lays out, of one paragraph a text."""
    blocks = writer.document_of(TextContent("\n\n".join(texts)))
    return json.dumps({"title": "", "blocks": blocks})


@pytest.fixture(scope="module")
def every_script() -> bytes:
    return made(MarkdownContent("\n\n".join(SAMPLES.values())))


@pytest.fixture(scope="module")
def text_of_every_script(every_script: bytes) -> str:
    return bare(extracted(every_script))


@pytest.mark.parametrize("script", SAMPLES)
def test_the_text_of_a_pdf_reads_back_in_logical_order(script: str, text_of_every_script: str) -> None:
    assert bare(SAMPLES[script]) in text_of_every_script


def test_every_character_is_drawn(every_script: bytes) -> None:
    shown = list(glyphs(every_script))
    assert len(shown) > 300
    assert [font for font, glyph in shown if glyph == 0] == []


def test_a_missing_glyph_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "drawable", lambda text: text)
    assert 0 in [glyph for _, glyph in glyphs(made(TextContent(UNKNOWN)))]


def test_what_no_font_draws_is_told_by_its_code() -> None:
    assert "[U+1E900]" in extracted(made(TextContent(f"a{UNKNOWN}b")))


def test_the_codes_that_make_text_readable_change_no_picture() -> None:
    drawn = child.laid_out(document(*SAMPLES.values()), 0)
    readable = readback.readable(drawn)
    assert readable != drawn
    assert pictures(readable) == pictures(drawn)


def test_right_to_left_text_is_drawn_from_the_right_and_joined() -> None:
    page = pypdfium2.PdfDocument(made(TextContent("ىىى one")))[0]
    text = page.get_textpage()
    places = [
        text.get_charbox(number)[0] for number in range(text.count_chars()) if text.get_text_range(number, 1) == "ى"
    ]
    latin = [text.get_charbox(n)[0] for n in range(text.count_chars()) if text.get_text_range(n, 1) == "o"]
    assert min(places) > latin[0] > 400
    forms = [glyph for _, glyph in glyphs(made(TextContent("ىىى")))]
    assert len(set(forms)) == 3  # the first, the middle and the last form of one letter


@pytest.mark.parametrize("emoji", SAMPLES["Emoji"].replace("🚀", "").replace("🇯🇵", "").split())
def test_an_emoji_of_several_characters_is_one_picture(emoji: str) -> None:
    assert len(list(glyphs(made(TextContent(emoji))))) == 1


def test_text_without_spaces_stays_within_the_margins() -> None:
    texts = [
        *("x" * 900, "W" * 900, "https://example.org/" + "aB1/" * 200, "ภาษาไทยไม่มีช่องว่าง" * 60, "中文" * 300),
        *("😀" * 200, "हिन्दी" * 120, "ខ្មែរ" * 120, "مرحبا" * 120, "a\u0301" * 300),
    ]
    flowing = "\n\n".join(f"{text}\n\n## {text}\n\n```\n{text}\n```" for text in texts)
    for content in (MarkdownContent(flowing), RowsContent(["a", "b", "c"], [["a", "b", text] for text in texts])):
        assert right_edge(made(content)) <= 595.3 - MARGIN + 1.5


def test_no_text_is_read_as_markup() -> None:
    text = '#import "x" $a^2$ *b* _c_ @ref <label> = head // note \\ #sys.inputs #read("/etc/passwd") "'
    assert bare(text) in bare(extracted(made(RowsContent([text], [[text]]))))
    assert bare(text) in bare(extracted(made(TextContent(text, title=text))))


def test_the_list_of_characters_is_what_the_fonts_have() -> None:
    assert (FONTS / "coverage.txt").read_text("ascii") == coverage()


def test_a_layout_that_takes_too_long_is_refused_with_an_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_TIMEOUT_S", 0)
    with pytest.raises(GenerationError, match="choose docx"):
        made(TextContent("word"))


def test_a_layout_that_is_ended_at_a_limit_is_refused_with_an_alternative(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "child.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(writer, "_CHILD", tmp_path / "child.py")
    with pytest.raises(GenerationError, match="choose docx"):
        made(TextContent("word"))


def test_a_layout_that_fails_is_an_error_and_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text("raise SystemExit('no such font')")
    monkeypatch.setattr(writer, "_CHILD", tmp_path / "child.py")
    with pytest.raises(RuntimeError, match="no such font"):
        made(TextContent("word"))


def test_a_break_never_parts_a_letter_from_its_marks() -> None:
    parts = characters.with_breaks("क्ष" * 60 + "e\u0301" * 60, 20).split("\u200b")
    assert len(parts) > 20
    assert not [part for part in parts if unicodedata.category(part[0]).startswith("M") or part.endswith("\u094d")]
