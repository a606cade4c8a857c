"""The API's description: as an OpenAPI document, and as an HTML page."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from triggers.http.endpoints import Call, Operation, endpoint, raw_json
from triggers.http.html import content_security_policy
from triggers.http.openapi import document

bp = df.Blueprint()


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/openapi.json",
        "openapi",
        "This document",
        "Operations",
        200,
        returns=dict[str, Any],
        public=True,
    ),
)
async def openapi(call: Call, _: None) -> Response:
    """Generated from the models that validate requests, so it cannot drift."""
    return raw_json(document(), headers={"Cache-Control": "no-cache"})


@endpoint(
    bp,
    Operation("GET", "/api/docs", "docs", "This API as a page", "Operations", 200, media_type="text/html", public=True),
)
async def docs(call: Call, _: None) -> Response:
    """Rendered on the server; loads nothing and works offline."""
    return Response(
        _page(document()),
        media_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": content_security_policy(_STYLE),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


_STYLE = """:root{color-scheme:light dark;--ink:#1a1f27;--paper:#fff;--link:#0a56c2}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--paper:#14181e;--link:#8ab4ff}}
body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
a{color:var(--link)}summary{cursor:pointer;padding:.35rem 0}code,pre{font:13px/1.45 ui-monospace,monospace}pre{overflow:auto;padding:.6rem;border:1px solid #8884;border-radius:.4rem}
b.m{display:inline-block;width:4.2rem}table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}h2{margin-top:2rem}"""


def _page(api: dict[str, Any]) -> str:
    by_tag: dict[str, list[str]] = {}
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    groups = "".join(f"<h2>{escape(tag)}</h2>{''.join(items)}" for tag, items in by_tag.items())
    models = "".join(
        f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>"
        for name, schema in api["components"]["schemas"].items()
    )
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Parley API</title><style>{_STYLE}</style></head>
<body><h1>Parley API</h1><p>{escape(api["info"]["description"])} The same as
<a href="/api/v1/openapi.json">OpenAPI 3.1</a>.</p>{groups}<h2>Models</h2>{models}</body></html>"""


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{p['in']}</td><td>{escape(p.get('description', ''))}</td></tr>"
        for p in operation["parameters"]
    )
    responses = "".join(
        f"<tr><td>{status}</td><td>{escape(response['description'])}</td></tr>"
        for status, response in operation["responses"].items()
    )
    body = ""
    if "requestBody" in operation:
        body = f"<h4>Body</h4>{_json(next(iter(operation['requestBody']['content'].values()))['schema'])}"
    table = f"<table>{parameters}</table>" if parameters else ""
    told = f"<p>{escape(operation['description'])}</p>" if "description" in operation else ""
    return f"""<details><summary><b class="m">{method.upper()}</b><code>{escape(path)}</code>
{escape(operation["summary"])}</summary>{told}{table}{body}<h4>Answers</h4><table>{responses}</table></details>"""


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
