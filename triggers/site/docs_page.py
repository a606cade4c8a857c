"""The OpenAPI document as one HTML page: schemas are linked, examples shown, and a request can be tried.

Invariants: it loads nothing; its one style and one script are allowed by their hashes, and the script speaks to this
origin only. What an answer says is shown as text.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

type Json = dict[str, Any]

STYLE = """:root{color-scheme:light dark;--ink:#1a1f27;--paper:#fff;--link:#0a56c2}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--paper:#14181e;--link:#8ab4ff}}
body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;
max-width:60rem;margin:2rem auto;padding:0 1rem}
a{color:var(--link)}summary{cursor:pointer;padding:.35rem 0;overflow-wrap:anywhere}
code,pre,textarea,input{font:13px/1.45 ui-monospace,monospace}
pre{overflow:auto;max-height:24rem;padding:.6rem;border:1px solid #8884;border-radius:.4rem}
b.m{display:inline-block;width:4.2rem}table{border-collapse:collapse;max-width:100%}
td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top;overflow-wrap:anywhere}h2{margin-top:2rem}
details details{margin-left:1rem}label{display:block;margin:.4rem 0}
textarea{width:100%;min-height:7rem;box-sizing:border-box}input{width:20rem;max-width:100%;box-sizing:border-box}
button{font:inherit;padding:.3rem 1rem;margin:.4rem 0}"""

SCRIPT = """'use strict'
const opened = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)))
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView() }
}
addEventListener('hashchange', opened)
opened()
document.addEventListener('click', async (event) => {
  const button = event.target
  if (!(button instanceof HTMLButtonElement)) return
  const form = button.closest('section')
  const shown = form.querySelector('output')
  let path = form.dataset.path
  const query = new URLSearchParams()
  const headers = new Headers({ 'x-requested-with': 'docs' })
  for (const field of form.querySelectorAll('input')) {
    if (field.dataset.in === 'path') path = path.replace('{' + field.name + '}', encodeURIComponent(field.value))
    else if (field.value && field.dataset.in === 'query') query.append(field.name, field.value)
    else if (field.value && field.dataset.in === 'header') headers.set(field.name, field.value)
  }
  const user = document.getElementById('user')
  if (user && user.value) headers.set('x-dev-user', user.value)
  const body = form.querySelector('textarea')
  if (body && body.value) headers.set('content-type', 'application/json')
  shown.textContent = 'Waiting for the answer ...'
  button.disabled = true
  try {
    const url = query.size ? path + '?' + query : path
    const answer = await fetch(url, { method: form.dataset.method, headers, body: body && body.value || undefined })
    const told = [...answer.headers].map(([name, value]) => name + ': ' + value).join('\\n')
    const text = await answer.text()
    let pretty = text
    try { pretty = JSON.stringify(JSON.parse(text), null, 2) } catch {}
    shown.textContent = answer.status + ' ' + answer.statusText + '\\n' + told + '\\n\\n' + pretty.slice(0, 100000)
  } catch (error) {
    shown.textContent = String(error)
  } finally {
    button.disabled = false
  }
})"""

_REFERENCE = re.compile(r"&quot;#/components/schemas/(\w+)&quot;")
_STREAM = "text/event-stream"


def page(api: Json, *, takes_dev_user: bool) -> str:
    """takes_dev_user: callers say who they are in a header, as on the development host."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    about = {tag["name"]: tag["description"] for tag in api["tags"]}
    groups = "".join(
        f"<h2>{escape(tag)}</h2><p>{escape(about[tag])}</p>{''.join(by_tag[tag])}" for tag in about if tag in by_tag
    )
    models = "".join(
        f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>"
        for name, schema in api["components"]["schemas"].items()
    )
    user = "<label>Try requests as <input id='user' placeholder='dev;approver,admin'></label>" if takes_dev_user else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Parley API</title>
<style>{STYLE}</style></head><body><main><h1>Parley API</h1><p>{escape(api["info"]["description"])} The same as
<a href="/api/v1/openapi.json">OpenAPI 3.1</a>, of which generators make clients.</p>{user}{groups}
<h2>Models</h2>{models}</main><script>{SCRIPT}</script></body></html>"""


def _operation(method: str, path: str, operation: Json) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    told = "".join(f"<p>{escape(part)}</p>" for part in operation["description"].split("\n\n"))
    asked = f"<h3>Body</h3>{_contents(body)}" if body else ""
    answers = "".join(
        f"<tr><td>{status}</td><td>{escape(response['description'])}{_contents(response.get('content', {}))}</td></tr>"
        for status, response in operation["responses"].items()
    )
    return f"""<details id="{operation["operationId"]}">
<summary><b class="m">{method.upper()}</b><code>{escape(path)}</code> {escape(operation["summary"])}</summary>{told}
{_parameters(operation)}{asked}<h3>Answers</h3><table>{answers}</table>
{_form(method, path, operation, body)}</details>"""


def _parameters(operation: Json) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{p['in']}</td><td>{_kind(p['schema'])}</td>"
        f"<td>{escape(p.get('description', ''))}</td></tr>"
        for p in operation["parameters"]
    )
    return f"<table>{rows}</table>" if rows else ""


def _kind(schema: Json) -> str:
    """A schema in one word, linked if it has a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    return escape(str(schema.get("format", schema.get("type", "any"))))


def _contents(content: Json) -> str:
    """Each media type with its schema and its example."""
    parts = []
    for kind, media in content.items():
        if kind == "application/problem+json":
            parts.append(f"<div>{kind}: {_kind(media['schema'])}</div>")
            continue
        inline = "" if "$ref" in media["schema"] or "properties" not in media["schema"] else _json(media["schema"])
        example = ""
        if "example" in media and kind != "text/html":
            example = f"<details><summary>Example</summary>{_json(media['example'])}</details>"
        parts.append(f"<div>{escape(kind)}: {_kind(media['schema'])}{inline}{example}</div>")
    return "".join(parts)


def _form(method: str, path: str, operation: Json, body: Json) -> str:
    """Fields for a request to try. None where a page can send none: files, pages with forms, and streams alone."""
    is_stream = list(operation["responses"].get("200", {}).get("content", {})) == [_STREAM]
    if is_stream or (body and "application/json" not in body):
        return ""
    fields = "".join(
        f"<label>{escape(p['name'])} <input name='{escape(p['name'])}' data-in='{p['in']}'></label>"
        for p in operation["parameters"]
    )
    if body:
        example = json.dumps(body["application/json"]["example"], indent=2, ensure_ascii=False)
        fields += f"<label>Body <textarea spellcheck='false'>{escape(example)}</textarea></label>"
    return f"""<details><summary>Try it</summary>
<section data-method="{method.upper()}" data-path="{escape(path)}">{fields}
<button type="button">Send</button><pre><output>No answer yet</output></pre></section></details>"""


def _json(value: Any) -> str:
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    return f"<pre>{_REFERENCE.sub(_linked, text)}</pre>"


def _linked(found: re.Match[str]) -> str:
    return f"<a href='#{found[1]}'>{found[1]}</a>"
