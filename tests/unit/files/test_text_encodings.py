"""Text in the encodings that people's files have, whole, damaged, short and long."""

from __future__ import annotations

import io

import pytest

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.readers.analysis import Analysis
from shared.sessions.models import FileKind

GERMAN = "Über die Brücke fährt täglich ein Zug nach Köln. Grüße aus München!\n"
JAPANESE = "今日は会議があります。明日も会議です。予算について話します。\n"


def analyze(data: bytes) -> Analysis:
    return FileAnalyzer().analyze(io.BytesIO(data))


@pytest.mark.parametrize(
    "data",
    [
        GERMAN.encode() * 5 + b"Temperatur 5\xb0C\n" + GERMAN.encode() * 5,
        b"\xff" + GERMAN.encode(),
        GERMAN.encode() * 2_000 + b"\xe9" + GERMAN.encode(),  # beyond the first sample
        "名前,都市\n".encode() + b"\xff\xfe,x\n" + "東京,大阪\n".encode() * 20,
    ],
)
def test_a_bad_byte_leaves_utf8_as_it_is_with_a_mark_and_a_warning(data: bytes) -> None:
    analysis = analyze(data)
    assert analysis.facts["encoding"] == "utf-8"
    assert analysis.text == data.decode(errors="replace")[:200_000]
    assert any("U+FFFD" in warning for warning in analysis.warnings)


@pytest.mark.parametrize(
    "data",
    [
        "Status ok 😀 ".encode()[:-2],
        "Price: 100 €".encode()[:-1],
        ("Status ok 😀 " * 200).encode()[:-3],
        "日本語テキスト".encode()[:-1],
        "日本語テキスト".encode()[1:],
        "😀 begins it".encode()[1:],
        b"Status \xf0\x9f\x98 ok, all ASCII but for one cut sign\n",
    ],
)
def test_a_cut_character_leaves_utf8_as_it_is(data: bytes) -> None:
    analysis = analyze(data)
    assert (analysis.facts["encoding"], analysis.text) == ("utf-8", data.decode(errors="replace"))
    assert any("U+FFFD" in warning for warning in analysis.warnings)


@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("codec", ["utf-8", "cp932", "euc_jp", "gb18030"])
def test_a_sample_never_ends_inside_a_character(codec: str, offset: int) -> None:
    text = "a" * offset + JAPANESE * 3_000
    analysis = analyze(text.encode(codec))
    assert analysis.facts["encoding"] == codec
    assert analysis.text == text[:200_000]
    assert not any("U+FFFD" in warning for warning in analysis.warnings)


@pytest.mark.parametrize("offset", range(3))
def test_a_long_line_without_an_end_is_not_cut_inside_a_character(offset: int) -> None:
    text = "a" * offset + JAPANESE.strip() * 3_000
    analysis = analyze(text.encode("cp932"))
    assert (analysis.facts["encoding"], analysis.text) == ("cp932", text[:200_000])


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("会議室予約", "cp932"),
        ("見積書", "cp932"),
        ("東京都", "cp932"),
        ("お世話になっております。", "cp932"),
        ("顧客名,金額\n田中,100\n鈴木,200\n", "cp932"),
        ("İyi günler dilerim, görüşmek üzere", "cp1254"),
        ("Müşteri adı;Şehir;Tutar\nAyşe;İzmir;5\n", "cp1254"),
        ("Güneş doğdu", "cp1254"),
        ("Çalışan sayısı: 5", "cp1254"),
        ("שלום", "cp1255"),
        ("שלום עולם", "cp1255"),
        ("חשבונית מס 123", "cp1255"),
        ("שם;כתובת\nדוד;תל אביב\n", "cp1255"),
        ("Привет", "cp1251"),
        ("Совещание завтра в девять", "koi8_r"),
        ("Совещание завтра в девять", "cp866"),
        ("会议明天九点开始", "gb18030"),
        ("會議明天九點開始", "cp950"),
        ("회의는 내일 아홉시입니다", "cp949"),
        ("Καλημέρα κόσμε", "cp1253"),
        ("مرحبا بالعالم", "cp1256"),
        ("Zażółć gęślą jaźń", "cp1250"),
        ("café", "cp1252"),
        ("Können Sie mir das Angebot für 5 Stühle à 20 € schicken?", "cp1252"),
        ("会議室の予約をお願いします。\n", "iso2022_jp"),
    ],
)
def test_a_few_words_in_a_code_page_are_read(text: str, codec: str) -> None:
    analysis = analyze(text.encode(codec))
    assert analysis.text == text
    assert any("encoding" in warning for warning in analysis.warnings)


def test_a_code_page_is_told_by_the_lines_that_need_it_wherever_they_are() -> None:
    text = "plain ASCII line\n" * 10_000 + "Toplantı yarın saat dokuzda başlıyor, lütfen geç kalmayın.\n" * 3
    analysis = analyze(text.encode("cp1254"))
    assert (analysis.facts["encoding"], analysis.text) == ("cp1254", text)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"09:01 started\n\x00\x00\x00\x0009:02 stopped\n" * 9, "09:01 started\n09:02 stopped\n" * 9),
        (b"a log that was laid out ahead\n" + bytes(5_000), "a log that was laid out ahead\n"),
        (GERMAN.encode() + b"\x00", GERMAN),
        (GERMAN.encode() * 2_000 + b"a\x00b", GERMAN * 2_000 + "ab"),
        (b"one\x00two\x00three\x00", "onetwothree"),
    ],
)  # fmt: skip
def test_nul_bytes_do_not_make_text_unreadable(data: bytes, text: str) -> None:
    analysis = analyze(data)
    assert (analysis.kind, analysis.text) == (FileKind.TEXT, text[:200_000])
    assert any("NUL" in warning for warning in analysis.warnings)


def test_nul_bytes_within_a_table_leave_its_rows() -> None:
    analysis = analyze("näme,city\nMü\x00ller,Köln\n".encode() * 5)
    assert analysis.kind is FileKind.CSV
    assert "\x00" not in str(analysis.facts)
    assert (analysis.text or "").startswith("näme,city\nMüller,Köln\n")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["Совещание завтра, в 9 часов\n", "会議は 明日です\n", "Plain words\n"])
def test_utf16_without_a_mark_is_read_in_every_script(text: str, codec: str) -> None:
    analysis = analyze((text * 20).encode(codec))
    assert (analysis.facts["encoding"], analysis.text) == (codec, text * 20)


@pytest.mark.parametrize(
    "data",
    [
        b"MZ\x90\x00\x03\x00\x00\x00",
        bytes(1000),
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00>\x00\x01\x00\x00\x00",
        b"\x05\x00\x01\x00\x02\x00\x10\x10\x00\x00\x01\x00 \x00h\x04\x00\x00&\x00\x00\x00",
    ],
)
def test_nul_bytes_of_a_binary_format_are_not_text(data: bytes) -> None:
    assert analyze(data).kind is FileKind.BINARY
