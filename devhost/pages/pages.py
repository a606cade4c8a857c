"""`/admin/pages`: HTML pages about this host: its functions, and the tables of its extensions.

Invariant: a page is read-only and has no script. Who may see it is checked before (`../http/access.py`).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from urllib.parse import parse_qsl, quote, unquote, urlencode

from starlette.types import Scope, Send

from devhost.asgi.replies import send_response
from devhost.extensions import timeline
from devhost.extensions.contract import (
    HTTP_TRIGGER,
    TIMER_TRIGGER,
    Cell,
    Extension,
    Function,
    Link,
    Shown,
    ShowsPages,
    Table,
)
from devhost.pages.beside import Beside

PATH = "/admin/pages"
_LONG = 34
"""Cells with more characters than this are wrapped."""

_STYLE = (
    """:root{color-scheme:light dark;--ink:#23282a;--soft:#596164;--paper:#faf8f4;--line:#ddd6c9;--accent:#2f5d62;
background:var(--paper);color:var(--ink)}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e1;--soft:#a3acab;--paper:#16191a;--line:#343b3c;--accent:#8ec5c0}}
*{box-sizing:border-box}body{font:15px/1.55 Inter,ui-sans-serif,system-ui,'Segoe UI',sans-serif;max-width:70rem;
margin:0 auto;padding:1rem}h1{font-size:1.35rem;font-weight:620;margin:.5rem 0}
h2{font-size:1rem;font-weight:620;margin:2rem 0 .5rem}
h1,h2,figcaption,.long{overflow-wrap:anywhere}
a{color:var(--accent);text-underline-offset:.15em}
a:focus-visible,.wide:focus-visible{outline:2px solid;outline-offset:2px}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);
vertical-align:top;white-space:nowrap}
td.long{white-space:normal;min-width:14rem}
th{color:var(--soft);font-size:13px;font-weight:600}td{font-variant-numeric:tabular-nums}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1rem;
list-style:none;padding:0;margin:.3rem 0}nav [aria-current]{font-weight:600;text-decoration:none;color:inherit}
figure{margin:1rem 0}figcaption{color:var(--soft);font-size:13px;margin-top:.4rem}.none{color:var(--soft)}
"""
    + timeline.STYLE
)
_POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}';"
    " form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


class Pages:
    """The pages of one host."""

    def __init__(
        self, functions: Sequence[Function], extensions: Sequence[Extension], route_prefix: str, beside: Beside
    ) -> None:
        """beside: tables about the machine around the app, shown last."""
        self._functions = functions
        self._prefix = route_prefix
        self._beside = beside
        self._shown = {extension.name: extension for extension in extensions if isinstance(extension, ShowsPages)}

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer a GET at or below PATH."""
        shown = self._page(scope)
        if shown is None:
            await send_response(send, 404)
            return
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", _POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]
        # A name from a request may contain a lone surrogate, which cannot be encoded.
        await send_response(send, 200, headers, _html(*shown).encode(errors="replace"))

    def _page(self, scope: Scope) -> tuple[str, list[tuple[str, Shown]]] | None:
        """The title, and the content with the extension that its links lead to; None when the page does not exist."""
        # From the raw path, since an instance id may contain a slash.
        raw = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        parts = [unquote(part) for part in raw.strip("/").split("/")[2:]]
        if not parts:
            everything: list[tuple[str, Shown]] = []
            for name, extension in self._shown.items():
                everything += [(name, shown) for shown in extension.overview()]
            everything += [("", table) for table in self._beside.tables()]
            return "This host", [*everything, ("", self._function_table())]
        named = self._shown.get(parts[0])
        if named is None or len(parts) > 2:
            return None
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        found = [(parts[0], shown) for shown in named.page(parts[1] if len(parts) == 2 else None, query)]
        return (found[0][1].title, found) if found else None

    def _function_table(self) -> Table:
        rows = [
            ((_name_of(function), None), (_trigger_of(function, self._prefix), None))
            for function in sorted(self._functions, key=lambda function: (function.trigger.type, function.name))
        ]
        return Table("Functions", ("Name", "Started by"), rows)


def _trigger_of(function: Function, prefix: str) -> str:
    raw = function.trigger.raw
    if function.trigger.type == HTTP_TRIGGER:
        methods = ", ".join(str(method).upper() for method in raw.get("methods") or ["any method"])
        path = "/".join(part for part in (prefix, str(raw.get("route") or function.name).strip("/")) if part)
        return f"{methods} /{path}"
    if function.trigger.type == TIMER_TRIGGER:
        return f"timer {raw.get('schedule')}"
    return function.trigger.type


def _name_of(function: Function) -> str:
    return f"{function.name} (disabled)" if function.disabled else function.name


def _html(title: str, shown: Sequence[tuple[str, Shown]]) -> str:
    """The whole page. A section with the same title as the page gets no heading of its own."""
    body = "".join(_section(name, one, heads=one.title != title) for name, one in shown)
    way = f'<a href="{PATH}">This host</a>'
    names = {name for name, _ in shown if name}
    way += "".join(f' / <a href="{PATH}/{quote(name, safe="")}">{escape(name)}</a>' for name in names) * (
        len(names) == 1
    )
    crumbs = "" if title == "This host" else f'<nav aria-label="Where this is">{way}</nav>'
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">
<title>{escape(title)} · devhost</title>
<style>{_STYLE}</style></head><body>{crumbs}<main><h1>{escape(title)}</h1>{body}</main></body></html>"""


def _section(name: str, shown: Shown, *, heads: bool) -> str:
    heading = f"<h2>{escape(shown.title)}</h2>" if heads else ""
    if isinstance(shown, timeline.Timeline):
        picture = timeline.draw(shown)
        return f"{heading}{picture}" if picture else ""
    return f"{heading}{_links(name, shown)}{_table(shown, name)}"


def _links(name: str, table: Table) -> str:
    items = "".join(f"<li>{_link(name, link)}</li>" for link in table.links)
    return f'<nav aria-label="{escape(table.title)}"><ul>{items}</ul></nav>' if items else ""


def _link(name: str, link: Link) -> str:
    current = ' aria-current="page"' if link.is_current else ""
    return f'<a href="{escape(_address(name, link.detail, link.query))}"{current}>{escape(link.text)}</a>'


def _address(name: str, detail: str | None, query: Mapping[str, str]) -> str:
    address = f"{PATH}/{_quoted(name)}"
    if detail is not None:
        address += f"/{_quoted(detail)}"
    return f"{address}?{urlencode(query)}" if query else address


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _table(table: Table, name: str) -> str:
    if not table.rows:
        return '<p class="none">None.</p>'
    has_head = any(table.columns)
    rows = "".join(f"<tr>{_row(name, row, is_named=not has_head)}</tr>" for row in table.rows)
    head = ""
    if has_head:
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
        head = f"<thead><tr>{head}</tr></thead>"
    # Focusable, so that it can be scrolled by keyboard.
    opening = f'<div class="wide" role="region" tabindex="0" aria-label="{escape(table.title)}"><table>'
    return f"{opening}{head}<tbody>{rows}</tbody></table></div>"


def _row(name: str, row: Sequence[Cell], *, is_named: bool) -> str:
    """is_named: the first cell is the row's header."""
    first = f'<th scope="row">{escape(row[0][0])}</th>' if is_named else _cell(name, *row[0])
    return first + "".join(_cell(name, *cell) for cell in row[1:])


def _cell(name: str, text: str, detail: str | None) -> str:
    opening = '<td class="long">' if len(text) > _LONG else "<td>"
    if detail is None:
        return f"{opening}{escape(text)}</td>"
    target = detail if detail.startswith("/") else _address(name, detail, {})
    return f'{opening}<a href="{escape(target)}">{escape(text)}</a></td>'
