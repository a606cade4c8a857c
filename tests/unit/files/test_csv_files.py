"""Tables as programs and people write them."""

from __future__ import annotations

import io
from typing import Any

import pytest

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.readers.analysis import Analysis
from shared.sessions.models import FileKind


def analyze(text: str) -> Analysis:
    return FileAnalyzer().analyze(io.BytesIO(text.encode()))


def shape(text: str) -> tuple[str, int, int]:
    """delimiter, rows, columns"""
    facts = analyze(text).facts
    return facts["delimiter"], facts["rows"], facts["column_count"]


def types(text: str) -> list[Any]:
    return [column["type"] for column in analyze(text).facts["columns"]]


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_every_line_end_makes_rows(end: str) -> None:
    text = end.join(["name,region,units", "widget,EU,12", '"gad\nget",US,7', ""])
    assert shape(text) == ("comma", 2, 3)


def test_every_line_end_makes_lines_of_plain_text() -> None:
    assert [analyze(f"one{end}two{end}three").facts["lines"] for end in ("\r", "\r\n", "\n")] == [3, 3, 3]


@pytest.mark.parametrize(
    ("sign", "name"), [(";", "semicolon"), (",", "comma"), ("\t", "tab"), ("|", "bar"), ("^", "^"), (":", ":")]
)
@pytest.mark.parametrize("first", ["sep={}", "SEP={}", '"sep={}"'])
def test_a_declared_separator_is_used_and_is_no_row(first: str, sign: str, name: str) -> None:
    rows = ("name", "region", "units"), ("widget", "EU", "12"), ("gadget", "US", "7")
    text = "\n".join([first.format(sign), *(sign.join(row) for row in rows), ""])
    assert shape(text) == (name, 2, 3)
    assert [column["name"] for column in analyze(text).facts["columns"]] == ["name", "region", "units"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Betrag, netto;Betrag, brutto\n1,50;1,79\n2,00;2,38\n3,10;3,69\n", ("semicolon", 3, 2)),
        ("Name;Ort\nMüller, Hans;Köln\nSchmidt, Eva;Bonn\n", ("semicolon", 2, 2)),
        ("id;who, where;price, net\n1;Smith, J;3,5\n2;Doe, A;4,5\n", ("semicolon", 2, 3)),
        ("a, b\tc, d\n1,5\t2,5\n3,5\t4,5\n", ("tab", 2, 2)),
        ("1,a;b,2\n3,c;d,4\n5,e;f,6\n", ("comma", 3, 3)),
        ("name,tags,n\nA,x;y,1\nB,z;w,2\n", ("comma", 2, 3)),
    ],
)
def test_the_separator_is_the_one_that_makes_a_table(text: str, expected: tuple[str, int, int]) -> None:
    assert shape(text) == expected


@pytest.mark.parametrize(
    "last", ["Total,,30", "Total,30", "Total: 30", "Summe", "\nTotal,,30", "\nTotal,,30\nprinted 2026-01-01"]
)
def test_a_row_of_totals_leaves_the_table_a_table(last: str) -> None:
    text = f"day,units,price\n2026-01-01,1,10\n2026-01-02,2,20\n2026-01-03,3,30\n{last}\n"
    analysis = analyze(text)
    assert (analysis.kind, analysis.facts["column_count"]) == (FileKind.CSV, 3)
    assert [column["name"] for column in analysis.facts["columns"]] == ["day", "units", "price"]


def test_a_row_of_totals_does_not_change_the_columns_types() -> None:
    text = "day,units\n2026-01-01,1\n2026-01-02,2\n2026-01-03,3\nTotal,6\n"
    assert types(text) == ["date", "integer"]
    assert any("totals" in warning for warning in analyze(text).warnings)


def test_a_title_above_a_table_is_no_row() -> None:
    text = "Sales report\n\nday;units;price\n2026-01-01;1;10\n2026-01-02;2;20\n2026-01-03;3;30\n"
    assert shape(text) == ("semicolon", 3, 3)
    assert any("above" in warning for warning in analyze(text).warnings)


@pytest.mark.parametrize("chars", [20_000, 100_000, 300_000])
@pytest.mark.parametrize("row", [0, 1, 5])
def test_a_long_quoted_field_is_one_field(row: int, chars: int) -> None:
    rows = [["id", "text"], *(["1", "short"] for _ in range(8))]
    rows[row][1] = "a long, long story\n" * (chars // 19)
    text = "".join(f'{first},"{second}"\n' for first, second in rows)
    assert shape(text)[::2] == ("comma", 2)
    assert analyze(text).facts["rows"] == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;b\n1.234,56;x\n7,00;y\n", ["number", "text"]),
        ('a,b\n"1,234.50",x\n"12,345",y\n', ["number", "text"]),
        ("a;b\n1 234,50;x\n12 %;y\n", ["number", "text"]),
    ],
)
def test_numbers_are_numbers_in_the_worlds_notations(text: str, expected: list[str]) -> None:
    assert types(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "int a = 1;\nint b = 2;\nreturn a;\n",
        "Dear Ann,\n\nthanks for the note, it helped.\nSee you soon, I hope.\n\nBest,\nBob\n",
        "First, we met.\nThen, we talked for hours.\nAt last, nothing came of it, of course.\n",
        "def f(a, b):\n    return g(a, b)\n\nprint(f(1, 2))\n",
        "a | b\nis what grep takes\nand nothing else\n",
    ],
)
def test_prose_and_code_are_no_tables(text: str) -> None:
    assert analyze(text).kind is not FileKind.CSV
