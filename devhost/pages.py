"""`/admin/pages`: what this host runs, as pages for a person: functions, and whatever extensions have to show.

Invariants: a page only looks, it changes nothing; it is drawn without a script; a browser that came by another name
than this machine's (DNS rebinding) gets nothing.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from urllib.parse import quote, unquote

from starlette.types import Scope, Send

from devhost.asgi import send_response
from devhost.extension import Extension, Function, ShowsTables, Table
from devhost.identity import is_own_name
from devhost.indexing import HTTP_TRIGGER, TIMER_TRIGGER

PATH = "/admin/pages"

_STYLE = """:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;
padding:0 1rem}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .8rem .3rem 0;
border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}h2{margin-top:2rem}
td{font-variant-numeric:tabular-nums}"""
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}';"
    " form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


class Pages:
    """The pages of one host."""

    def __init__(
        self, functions: Sequence[Function], extensions: Sequence[Extension], route_prefix: str, beside: ShowsTables
    ) -> None:
        """beside: what is shown last, of the machine around the app."""
        self._functions = functions
        self._prefix = route_prefix
        self._beside = beside
        self._shown = {extension.name: extension for extension in extensions if isinstance(extension, ShowsTables)}

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer a GET at or below PATH."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        tables = self._tables(scope) if is_own_name(host) else None
        if tables is None:
            await send_response(send, 404)
            return
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", _POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]
        await send_response(send, 200, headers, _page(tables).encode())

    def _tables(self, scope: Scope) -> list[tuple[str, Table]] | None:
        """Each with the name of the extension its links lead to; None when there is no such page."""
        # From the raw path: an id of an instance may hold a slash.
        raw = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        parts = [unquote(part) for part in raw.strip("/").split("/")[2:]]
        if not parts:
            everything = [("", self._function_table())]
            for name, extension in self._shown.items():
                everything += [(name, table) for table in extension.tables(None)]
            return everything + [("", table) for table in self._beside.tables(None)]
        named = self._shown.get(parts[0])
        if named is None or len(parts) != 2:
            return None
        return [(parts[0], table) for table in named.tables(parts[1])] or None

    def _function_table(self) -> Table:
        rows = [
            ((function.name, None), (_trigger_of(function, self._prefix), None), (_state_of(function), None))
            for function in sorted(self._functions, key=lambda function: (function.trigger.type, function.name))
        ]
        return Table("Functions", ("Name", "Started by", ""), rows)


def _trigger_of(function: Function, prefix: str) -> str:
    raw = function.trigger.raw
    if function.trigger.type == HTTP_TRIGGER:
        methods = ", ".join(str(method).upper() for method in raw.get("methods") or ["any method"])
        path = "/".join(part for part in (prefix, str(raw.get("route") or function.name).strip("/")) if part)
        return f"{methods} /{path}"
    if function.trigger.type == TIMER_TRIGGER:
        return f"timer {raw.get('schedule')}"
    return function.trigger.type


def _state_of(function: Function) -> str:
    return "disabled" if function.disabled else ""


def _page(tables: Sequence[tuple[str, Table]]) -> str:
    body = "".join(_table(name, table) for name, table in tables)
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>devhost</title><style>{_STYLE}</style></head>
<body><p><a href="{PATH}">devhost</a></p>{body}</body></html>"""


def _table(name: str, table: Table) -> str:
    if not table.rows:
        return f"<h2>{escape(table.title)}</h2><p>None.</p>"
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{''.join(_cell(name, *cell) for cell in row)}</tr>" for row in table.rows)
    return f"<h2>{escape(table.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(name: str, text: str, detail: str | None) -> str:
    if detail is None:
        return f"<td>{escape(text)}</td>"
    if detail.startswith("/"):
        return f'<td><a href="{escape(detail)}">{escape(text)}</a></td>'
    return f'<td><a href="{PATH}/{quote(name, safe="")}/{quote(detail, safe="")}">{escape(text)}</a></td>'
