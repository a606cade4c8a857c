"""Content as one HTML page.

Invariant: the page is inert. All text is escaped, and no attribute contains text of the content. There are no links,
scripts, forms, images or remote URLs, and a Content-Security-Policy in the page forbids them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

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
from shared.sessions.files.writers.content import Content, clean

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}"
    "p,td,th{white-space:pre-wrap}pre{background:#f4f4f4;padding:.75rem;white-space:pre-wrap}"
    "table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.2rem .5rem;text-align:start;vertical-align:top}"
    + "".join(f".d{depth}{{margin-inline-start:{depth * 1.5}rem}}" for depth in range(1, 21))
)
_HEAD = (
    '<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'\">\n"
    '<meta name="referrer" content="no-referrer">\n'
    '<meta name="viewport" content="width=device-width">\n'
)


def write_html(content: Content) -> Iterator[bytes]:
    yield f"{_HEAD}<title>{_text(content.title or 'Document')}</title>\n".encode()
    yield f'<style>{_STYLE}</style>\n</head>\n<body dir="auto">\n'.encode()
    for block in blocks_of(content):
        for part in _block(block):
            yield part.encode()
    yield b"</body>\n</html>\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Heading(level, runs):
            yield f'<h{level} dir="auto">{_runs(runs)}</h{level}>\n'
        case Paragraph(runs, depth, marker):
            indent = f' class="d{depth}"' if depth else ""
            yield f'<p dir="auto"{indent}>{_text(marker + " ") if marker else ""}{_runs(runs)}</p>\n'
        case Code(text):
            yield f'<pre dir="auto">{_text(text)}</pre>\n'
        case Rule():
            yield "<hr>\n"
        case Table():
            names = "".join(f'<th dir="auto">{_text(name)}</th>' for name in block.columns)
            yield f'<table dir="auto">\n<tr>{names}</tr>\n'
            for row in table_rows(block):
                yield "<tr>" + "".join(f'<td dir="auto">{_text(cell)}</td>' for cell in row) + "</tr>\n"
            yield "</table>\n"
        case Folded(label, blocks):
            yield f'<details><summary dir="auto">{_text(label)}</summary>\n'
            for folded in blocks:
                yield from _block(folded)
            yield "</details>\n"


def _runs(runs: Sequence[Run]) -> str:
    return "".join(_run(run) for run in runs)


def _run(run: Run) -> str:
    text = _text(run.text)
    if run.code:
        text = f"<code>{text}</code>"
    if run.italic:
        text = f"<em>{text}</em>"
    if run.bold:
        text = f"<strong>{text}</strong>"
    return text


def _text(text: str) -> str:
    return escape(clean(text))
