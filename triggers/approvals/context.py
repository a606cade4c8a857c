"""What led to a call, as a part of the approver's page.

Models, people and pages wrote it: all of it is escaped text inside an element.
"""

from __future__ import annotations

from html import escape

from shared.sessions.approvals.call_context import ApprovalContext, Excerpt
from shared.sessions.records.approval_policy import ShownContext


def section(told: ApprovalContext) -> str:
    """HTML; says so where the policy does not show it."""
    parts = [
        _told(f"The question, by {told.asked_by}" if told.asked_by else "The question", told.question),
        _files(told),
        _told("Data from outside that came with it", told.data),
        _read(told),
        _earlier(told),
        _told("The model’s summary of its reasoning", told.reasoning),
        _told("What the agent wrote with the call", told.said),
    ]
    if told.shows is ShownContext.NONE:
        parts = ['<p class="told">The policy of this tool does not show it here.</p>']
    return f"<section><h2>What led to it</h2>{''.join(parts)}</section>"


def _told(heading: str, excerpt: Excerpt | None) -> str:
    return "" if excerpt is None else f'<h3>{escape(heading)}</h3><p class="told" dir="auto">{_cut(excerpt)}</p>'


def _cut(excerpt: Excerpt) -> str:
    more = f" <small>[{excerpt.missing} more characters are not shown]</small>" if excerpt.missing else ""
    return f"{escape(excerpt.text)}{more}"


def _files(told: ApprovalContext) -> str:
    if not told.files:
        return ""
    more = f" and {told.more_files} more" if told.more_files else ""
    return f'<h3>Files that came with it</h3><p class="told">{escape(", ".join(told.files))}{more}</p>'


def _read(told: ApprovalContext) -> str:
    untrusted = [source.name for source in told.read if source.is_untrusted]
    if not untrusted:
        return ""
    return f"""<h3>What it had read</h3><p class="told"><span class="warn">Untrusted:</span>
{escape(", ".join(untrusted))}. Somebody else wrote that, and may have caused this call.</p>"""


def _earlier(told: ApprovalContext) -> str:
    if not told.earlier:
        return ""
    more = f"<li>{told.more_earlier} calls before these are not shown</li>" if told.more_earlier else ""
    calls = []
    for call in told.earlier:
        said = "" if call.said is None else f'<p class="told" dir="auto">{_cut(call.said)}</p>'
        mark = ' <span class="warn">untrusted result</span>' if call.is_untrusted else ""
        where = "" if call.server is None else f" at {escape(call.server)}"
        result = "" if call.result is None else f"<pre>{_cut(call.result)}</pre>"
        calls.append(
            f"<li>{said}{escape(call.tool)}{where} ({call.status}){mark}<pre>{_cut(call.arguments)}</pre>{result}</li>"
        )
    return f"""<details><summary>Earlier calls of this turn: {len(told.earlier) + told.more_earlier}</summary>
<ul class="calls">{more}{"".join(calls)}</ul></details>"""
