"""Content as a Word document: a zip archive with three small fixed parts and a streamed body.

Invariant: the body is written to the archive block by block, so a long conversation is never in memory as a whole.
Every date in the archive is the same constant, so equal content gives equal bytes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO
from xml.sax.saxutils import escape

from shared.sessions.files.writers.blocks import (
    Block,
    Code,
    Folded,
    Heading,
    Paragraph,
    Rule,
    Run,
    Table,
    blocks_of,
    table_rows,
)
from shared.sessions.files.writers.content import Content, clean, is_right_to_left

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip supports
_DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml"

_TYPES = (
    f'{_DECLARATION}<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/word/document.xml" ContentType="{_WORD}.document.main+xml"/>'
    f'<Override PartName="/word/styles.xml" ContentType="{_WORD}.styles+xml"/></Types>'
)
_ROOT_RELATIONS = (
    f'{_DECLARATION}<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>'
)
_BODY_RELATIONS = (
    f'{_DECLARATION}<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>'
)
_HALF_POINTS = (36, 30, 26, 24, 22, 22)  # sizes of headings 1..6
_INDENT_TWIPS = 360  # per level; 1440 are an inch


def write_docx(content: Content, out: BinaryIO) -> None:
    """`out` must be seekable: zipfile goes back to write the sizes of the parts."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (
            ("[Content_Types].xml", _TYPES),
            ("_rels/.rels", _ROOT_RELATIONS),
            ("word/_rels/document.xml.rels", _BODY_RELATIONS),
            ("word/styles.xml", _styles()),
        ):
            archive.writestr(_entry(name), text)
        with archive.open(_entry("word/document.xml"), "w") as body:
            body.write(f'{_DECLARATION}<w:document xmlns:w="{_MAIN}"><w:body>'.encode())
            for block in blocks_of(content):
                for part in _block(block):
                    body.write(part.encode())
            body.write(b"<w:sectPr/></w:body></w:document>")


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 0  # the same on every system
    entry.external_attr = 0
    return entry


def _styles() -> str:
    headings = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/>'
        f'<w:basedOn w:val="Normal"/><w:next w:val="Normal"/><w:pPr><w:keepNext/><w:spacing w:before="240"/>'
        f'<w:outlineLvl w:val="{level - 1}"/></w:pPr>'
        f'<w:rPr><w:b/><w:bCs/><w:sz w:val="{size}"/><w:szCs w:val="{size}"/></w:rPr></w:style>'
        for level, size in enumerate(_HALF_POINTS, start=1)
    )
    return (
        f'{_DECLARATION}<w:styles xmlns:w="{_MAIN}">'
        '<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/>'
        '<w:pPr><w:spacing w:after="120"/></w:pPr><w:rPr><w:sz w:val="22"/><w:szCs w:val="22"/></w:rPr></w:style>'
        f"{headings}</w:styles>"
    )


def _block(block: Block) -> Iterator[str]:
    match block:
        case Heading(level, runs):
            yield f'<w:p><w:pPr><w:pStyle w:val="Heading{level}"/>{_direction(runs)}</w:pPr>{_runs(runs)}</w:p>'
        case Paragraph(runs, depth, marker):
            indent = f'<w:ind w:left="{depth * _INDENT_TWIPS}"/>' if depth else ""
            yield _paragraph([Run(marker + " "), *runs] if marker else runs, indent)
        case Code(text):
            yield _paragraph([Run(text, code=True)])
        case Rule():
            yield '<w:p><w:pPr><w:pBdr><w:bottom w:val="single" w:sz="6" w:space="1"/></w:pBdr></w:pPr></w:p>'
        case Table():
            yield from _table(block)
        case Folded():
            pass


def _paragraph(runs: Sequence[Run], indent: str = "") -> str:
    style = _direction(runs) + indent
    return f"<w:p>{f'<w:pPr>{style}</w:pPr>' if style else ''}{_runs(runs)}</w:p>"


def _direction(runs: Sequence[Run]) -> str:
    return "<w:bidi/>" if is_right_to_left("".join(run.text for run in runs)) else ""


def _table(table: Table) -> Iterator[str]:
    sides = "".join(f'<w:{side} w:val="single" w:sz="4"/>' for side in ("top", "left", "bottom", "right"))
    inside = '<w:insideH w:val="single" w:sz="4"/><w:insideV w:val="single" w:sz="4"/>'
    columns = max(1, len(table.columns))
    order = "<w:bidiVisual/>" if table.columns and is_right_to_left(table.columns[0]) else ""
    yield f"<w:tbl><w:tblPr>{order}<w:tblBorders>{sides}{inside}</w:tblBorders></w:tblPr>"
    yield f"<w:tblGrid>{'<w:gridCol/>' * columns}</w:tblGrid>"
    yield _row(table.columns or [""], is_bold=True)
    for row in table_rows(table):
        yield _row(row or [""], is_bold=False)
    yield "</w:tbl><w:p/>"  # Word merges adjacent tables


def _row(cells: Sequence[str], *, is_bold: bool) -> str:
    return "<w:tr>" + "".join(f"<w:tc>{_paragraph([Run(cell, bold=is_bold)])}</w:tc>" for cell in cells) + "</w:tr>"


def _runs(runs: Sequence[Run]) -> str:
    return "".join(_run(run) for run in runs)


def _run(run: Run) -> str:
    style = ""
    if run.code:
        style += '<w:rFonts w:ascii="Courier New" w:hAnsi="Courier New" w:cs="Courier New"/>'
    # Word keeps each style twice: for Latin and the like, and for complex scripts such as Arabic, Hindi and Thai.
    style += "<w:b/><w:bCs/>" * run.bold + "<w:i/><w:iCs/>" * run.italic + "<w:rtl/>" * is_right_to_left(run.text)
    lines = [_line(line) for line in clean(run.text).split("\n")]
    return f"<w:r>{f'<w:rPr>{style}</w:rPr>' if style else ''}{'<w:br/>'.join(lines)}</w:r>"


def _line(line: str) -> str:
    return "<w:tab/>".join(f'<w:t xml:space="preserve">{escape(part)}</w:t>' for part in line.split("\t"))
