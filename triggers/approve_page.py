"""The approver's HTML: readable on a phone, no script, nothing loaded from anywhere.

Everything from a model or a person is escaped text inside an element; never an attribute, a link or markup.
"""

from __future__ import annotations

import json
from html import escape

from azurefunctions.extensions.http.fastapi import Response

from shared.errors import AppError
from shared.sessions.models import Approval, ApprovalStatus
from triggers.html import content_security_policy

_STYLE = """
:root{color-scheme:light dark;--ink:#1a1f27;--dim:#57606d;--paper:#f5f6f8;--card:#fff;--line:#d5dae1;--go:#176f3a;--no:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--dim:#a5afbd;--paper:#14181e;--card:#1d232b;--line:#38414d;--go:#2e9d5b;--no:#e5655c}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:44rem;margin:0 auto;padding:1.5rem 1rem 3rem}h1{font-size:1.4rem;margin:.2rem 0 1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem 1.2rem;margin:0 0 1rem}
dl{display:grid;grid-template-columns:auto 1fr;gap:.3rem 1rem;margin:0}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:14px/1.5 ui-monospace,monospace}
textarea{width:100%;min-height:4.5rem;font:inherit;color:inherit;background:transparent;border:1px solid var(--line);border-radius:.4rem;padding:.5rem}
label{display:block;color:var(--dim);margin:0 0 .3rem}.actions{display:flex;gap:.8rem;margin-top:1rem}
button{flex:1;font:600 1rem system-ui,sans-serif;color:#fff;border:0;border-radius:.5rem;padding:.8rem;cursor:pointer}
button[value=approve]{background:var(--go)}button[value=reject]{background:var(--no)}
button:focus-visible,textarea:focus-visible{outline:3px solid #4c8dff;outline-offset:2px}small{color:var(--dim)}
"""

_CSP = content_security_policy(_STYLE, forms=True)


def question(approval: Approval, *, may_decide: bool, user_id: str) -> Response:
    """The page of an approval that waits."""
    until = f"{approval.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    form = """<form method="post"><section><label for="comment">Comment (optional)</label>
<textarea id="comment" name="comment" maxlength="2000"></textarea>
<div class="actions"><button name="decision" value="approve">Approve</button>
<button name="decision" value="reject">Reject</button></div></section></form>"""
    if not may_decide:
        form = "<section>You may see this, but deciding needs the approver role.</section>"
    return _page(
        200,
        f"Allow {approval.tool}?",
        f"""{_facts(approval)}{form}<small>Signed in as {escape(user_id)}. Without a decision by {until}
it will not run.</small>""",
    )


def decided(approval: Approval, *, just_now: bool = False) -> Response:
    """The page of an approval that waits no more."""
    title = {
        ApprovalStatus.APPROVED: "Approved",
        ApprovalStatus.REJECTED: "Rejected",
        ApprovalStatus.TIMED_OUT: "Too late",
        ApprovalStatus.CANCELLED: "Cancelled",
        ApprovalStatus.PENDING: "Waiting",
    }[approval.status]
    if just_now:
        what = "The turn goes on now." if approval.status is ApprovalStatus.APPROVED else "The tool will not run."
    elif approval.decided_by:
        what = f"{escape(approval.decided_by)} decided at {approval.decided_at:%Y-%m-%d %H:%M:%S} UTC."
    else:
        what = "Nobody decided in time, or the turn was cancelled. The tool was not run."
    status = 410 if approval.status is ApprovalStatus.TIMED_OUT else 200
    return _page(status, title, f"<section>{what}</section>{_facts(approval)}")


def refusal(exc: AppError) -> Response:
    """An error of ours as a page."""
    titles = {401: "Sign in first", 404: "No such approval", 409: "Already decided", 410: "Too late"}
    return note(exc.status, titles.get(exc.status, "That did not work"), exc.safe_message)


def note(status: int, title: str, text: str) -> Response:
    """A page that only says something."""
    return _page(status, title, f"<section>{escape(text)}</section>")


def _facts(approval: Approval) -> str:
    arguments = json.dumps(
        approval.arguments if approval.decided_arguments is None else approval.decided_arguments,
        indent=2,
        ensure_ascii=False,
    )
    return f"""<section><dl><dt>Tool</dt><dd>{escape(approval.tool)}</dd>
<dt>Asked by</dt><dd>{escape(approval.requested_by)}</dd><dt>Session</dt><dd>{escape(approval.session_id)}</dd>
<dt>Asked at</dt><dd>{approval.requested_at:%Y-%m-%d %H:%M:%S} UTC</dd>
<dt>Decide by</dt><dd>{approval.expires_at:%Y-%m-%d %H:%M:%S} UTC</dd></dl></section>
<section><label>Exactly these arguments</label><pre>{escape(arguments)}</pre></section>"""


def _page(status: int, title: str, body: str) -> Response:
    html = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="referrer" content="no-referrer">
<title>{escape(title)} - Parley</title><style>{_STYLE}</style></head>
<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"""
    return Response(
        html,
        status_code=status,
        media_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": _CSP,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )
