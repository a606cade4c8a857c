"""A workbook's cells read as a person sees them in Excel."""

from __future__ import annotations

import io

import pytest

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.readers.analysis import Analysis, AnalysisError
from shared.sessions.models import FileKind
from tests.unit.files import documents


def analyze(file: io.BytesIO) -> Analysis:
    return FileAnalyzer().analyze(file)


def shown(value: str, code: str | int = 0, *, is_1904: bool = False) -> str:
    """What a cell with this value and number format reads as."""
    number = code if isinstance(code, int) else 164
    custom = "" if isinstance(code, int) else f"<numFmts><numFmt numFmtId='164' formatCode='{code}'/></numFmts>"
    styles = f'{custom}<cellXfs><xf numFmtId="0"/><xf numFmtId="{number}"/></cellXfs>'
    properties = '<workbookPr date1904="1"/>' if is_1904 else ""
    rows = f'<row><c r="A1" s="1"><v>{value}</v></c></row>'
    text = analyze(documents.xlsx(rows, styles=styles, properties=properties)).text or ""
    return text.removeprefix("## Data\n").removesuffix("\n")


@pytest.mark.parametrize(
    ("value", "code", "right"),
    [
        ("44634", "yyyy-mm-dd", "2026-03-15"),  # 44634 days after 1904-01-01
        ("0", "yyyy-mm-dd", "1904-01-01"),
        ("44634.5", 22, "2026-03-15 12:00"),
        ("1.5", "[h]:mm", "36:00"),
    ],
)
def test_days_count_from_1904_where_the_workbook_says_so(value: str, code: str | int, right: str) -> None:
    assert shown(value, code, is_1904=True) == right


@pytest.mark.parametrize(
    ("value", "code", "right"),
    [
        ("1.5208333333333333", "[h]:mm", "36:30"),
        ("4.166666666666667", "[h]:mm:ss", "100:00:00"),
        ("4.166666666666667", 46, "100:00:00"),
        ("0.069791666666666669", "[mm]:ss", "100:30"),
        ("-0.0416666666666667", "[h]:mm", "-01:00"),
        ("0.5", '[hh]"h" mm"min"', "12:00"),
    ],
)
def test_a_duration_is_no_date(value: str, code: str | int, right: str) -> None:
    assert shown(value, code) == right


@pytest.mark.parametrize(
    ("value", "code", "right"),
    [
        ("0.3854166666666667", "h:mm", "09:15"),
        ("0.3854166666666667", 20, "09:15"),
        ("0.3854166666666667", "h:mm AM/PM", "09:15"),
        ("0.3854166666666667", 21, "09:15:00"),
        ("0.3854166666666667", "[$-F400]h:mm:ss\\ AM/PM", "09:15:00"),
        ("0.002372685185185185", "mm:ss", "03:25"),
        ("0.002372685185185185", 45, "03:25"),
        ("0.00237847222222222", "mm:ss.0", "03:25.5"),
        ("0.99999999999", "h:mm:ss", "00:00:00"),
        ("0.75", '上午/下午h"时"mm"分"', "18:00"),
    ],
)
def test_a_time_is_no_date(value: str, code: str | int, right: str) -> None:
    assert shown(value, code) == right


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("1", "1900-01-01"),
        ("59", "1900-02-28"),
        ("60", "1900-02-29"),  # Excel's own, which never was
        ("61", "1900-03-01"),
        ("46096", "2026-03-15"),
        ("46096.5", "2026-03-15 12:00"),
        ("2958465", "9999-12-31"),
        ("2958466", "2958466"),
        ("-1", "-1"),
    ],
)
def test_dates_are_excels_also_before_march_1900(value: str, right: str) -> None:
    assert shown(value, "yyyy-mm-dd") == right


@pytest.mark.parametrize("code", [*range(27, 32), 36, *range(50, 55), 57, 58, 71, 81])
def test_built_in_formats_of_asian_languages_are_dates(code: int) -> None:
    assert shown("46096", code) == "2026-03-15"


@pytest.mark.parametrize("code", [32, 33, 34, 35, 55, 56])
def test_built_in_formats_that_are_a_date_or_a_time_by_language(code: int) -> None:
    assert (shown("46096", code), shown("0.75", code)) == ("2026-03-15", "18:00")


@pytest.mark.parametrize(
    "code",
    [
        'yyyy"年"m"月"d"日"',
        "yyyy년 m월 d일",
        '[$-411]ggge"年"m"月"d"日"',
        "[$-F800]dddd\\,\\ mmmm\\ dd\\,\\ yyyy",
        "d. mmmm yyyy",
        "[Red]dd/mm/yy;@",
        "[$-409]mmm\\-yy",
        "aaaa",
    ],
)
def test_custom_formats_of_dates(code: str) -> None:
    assert shown("46096", code) == "2026-03-15"


@pytest.mark.parametrize(
    "code",
    ["0.00", "#,##0.00 [$€-407]", '0.0" days"', "[Red]0", "0.00E+00", '#,##0" h"', "_-* #,##0_-", "General", "@"],
)
def test_formats_of_numbers_make_no_dates(code: str) -> None:
    assert shown("1234.5", code) == "1234.5"


@pytest.mark.parametrize(
    ("raw", "typed"),
    [
        ("19.989999999999998", "19.99"),
        ("0.30000000000000004", "0.3"),
        ("0.1", "0.1"),
        ("1.0000000000000001E-5", "0.00001"),
        ("1.5E+3", "1500"),
        ("3.0", "3"),
        ("-2.50", "-2.5"),
        ("12345678901234", "12345678901234"),
        ("1E+100", "1e+100"),
        ("-0", "-0"),
    ],
)
def test_floats_read_as_typed(raw: str, typed: str) -> None:
    assert shown(raw) == typed


def test_a_percentage_reads_as_typed() -> None:
    assert (shown("0.125", 10), shown("0.07", 9), shown("0.28999999999999998", "0.0%")) == ("12.5%", "7%", "29%")


def test_formulas_without_values_are_shown_with_a_warning() -> None:
    rows = (
        '<row><c r="A1"><v>3</v></c><c r="B1"><f>A1*2</f><v></v></c><c r="C1"><f>SUM(A1:B1)</f></c></row>'
        '<row><c r="A2"><f t="shared" ref="A2:A3" si="0">A1+1</f></c></row>'
        '<row><c r="A3"><f t="shared" si="0"/></c><c r="B3" t="str"><f>""</f><v></v></c></row>'
        '<row><c r="A4"><f>A1+1</f><v>4</v></c></row>'
    )
    analysis = analyze(documents.xlsx(rows))
    assert analysis.text == "## Data\n3\t=A1*2\t=SUM(A1:B1)\n=A1+1\n=A1+1 (filled)\t\n4\n"
    assert any("Formulas without values: 4" in warning for warning in analysis.warnings)


@pytest.mark.parametrize("state", ["hidden", "veryHidden"])
def test_a_hidden_sheet_is_read_and_called_hidden(state: str) -> None:
    analysis = analyze(documents.xlsx("<row><c><v>1</v></c></row>", sheet=f'name="Salaries" state="{state}"'))
    assert analysis.text == "## Salaries (hidden)\n1\n"
    assert analysis.facts["sheets"][0]["hidden"] is True
    assert any("Salaries" in warning for warning in analysis.warnings)


def test_hidden_rows_are_told() -> None:
    analysis = analyze(documents.xlsx('<row hidden="1"><c><v>1</v></c></row>'))
    assert any("1 hidden row" in warning for warning in analysis.warnings)


def test_comments_follow_their_sheet() -> None:
    notes = (
        "<comments><authors><author>Ann</author><author>tc={1}</author></authors><commentList>"
        '<comment ref="B2" authorId="0"><text><r><t>Check </t></r><r><t>this</t></r></text></comment>'
        '<comment ref="B3" authorId="1"><text><t>[Threaded comment] Your version of Excel</t></text></comment>'
        "</commentList></comments>"
    )
    threads = (
        '<ThreadedComments><threadedComment ref="B3" personId="{p}"><text>Why 7?</text></threadedComment>'
        '<threadedComment ref="B3" personId="{p}" parentId="{1}"><text>Because.</text></threadedComment>'
        "</ThreadedComments>"
    )
    parts = {
        "xl/worksheets/_rels/sheet1.xml.rels": documents.rels(
            a="comments ../comments1.xml", b="threadedComment ../threadedComments/t1.xml"
        ),
        "xl/comments1.xml": notes,
        "xl/threadedComments/t1.xml": threads,
        "xl/persons/person.xml": '<personList><person displayName="Bob" id="{p}"/></personList>',
    }
    analysis = analyze(documents.xlsx("<row><c><v>1</v></c></row>", parts=parts))
    assert analysis.text == (
        "## Data\n1\nComments:\n- B3 (Bob): Why 7?\n- B3 (Bob): Because.\n- B2 (Ann): Check this\n"
    )
    assert analysis.facts["sheets"][0]["comments"] == 3


def test_phonetic_guides_and_escapes_are_not_text() -> None:
    rows = '<row><c t="inlineStr"><is><t>東京_x000D_\n</t><rPh><t>トウキョウ</t></rPh></is></c></row>'
    assert analyze(documents.xlsx(rows)).text == "## Data\n東京\n\n"


def _compound(name: str) -> io.BytesIO:
    return io.BytesIO(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(1528) + name.encode("utf-16-le") + bytes(2048))


def test_an_encrypted_document_is_protected_by_a_password() -> None:
    with pytest.raises(AnalysisError, match="protected by a password"):
        analyze(_compound("EncryptedPackage"))


@pytest.mark.parametrize(("stream", "name"), [("Workbook", "Excel"), ("WordDocument", "Word"), ("other", "Office")])
def test_an_office_document_of_the_old_format_is_named_and_not_read(stream: str, name: str) -> None:
    analysis = analyze(_compound(stream))
    assert (analysis.kind, analysis.text) == (FileKind.BINARY, None)
    assert name in analysis.warnings[0]
    assert "not read" in analysis.warnings[0]
