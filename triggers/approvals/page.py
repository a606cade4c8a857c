"""The approver's HTML: readable on a phone, no script, nothing loaded from anywhere.

Everything from a model or a person is escaped text inside an element, never an attribute, a link or markup. The page
offers only what the policy allows this person, and the policy is checked again when the form arrives.
"""

from __future__ import annotations

import json
from html import escape

from azurefunctions.extensions.http.fastapi import Response

from shared.errors import AppError
from shared.sessions.approval import ApprovalView
from shared.sessions.approvals.deciders import approvals_so_far
from shared.sessions.approvals.models import Approval
from shared.sessions.context.visible import revealed
from shared.sessions.models import ApprovalStatus, Decision, JsonObject
from shared.sessions.records.approval_policy import TimeoutAction
from triggers.http.html import content_security_policy

_STYLE = """
:root{color-scheme:light dark;--ink:#1a1f27;--dim:#57606d;--paper:#f5f6f8;--card:#fff;--line:#d5dae1;--edge:#7a8493;--go:#176f3a;--no:#b3261e;--focus:#1d5fd1}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--dim:#a5afbd;--paper:#14181e;--card:#1d232b;--line:#38414d;--edge:#7d8897;--go:#26844c;--no:#cb4138;--focus:#6ea2ff}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:44rem;margin:0 auto;padding:1.5rem 1rem 3rem}h1{font-size:1.4rem;margin:.2rem 0 1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem 1.2rem;margin:0 0 1rem}
dl{display:grid;grid-template-columns:auto 1fr;gap:.3rem 1rem;margin:0}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:14px/1.5 ui-monospace,monospace}
textarea{width:100%;min-height:4.5rem;font:inherit;color:inherit;background:transparent;border:1px solid var(--edge);border-radius:.4rem;padding:.5rem}
label{display:block;color:var(--dim);margin:0 0 .3rem}.actions{display:flex;gap:.8rem;margin-top:1rem}
button{flex:1;font:600 1rem system-ui,sans-serif;color:#fff;border:0;border-radius:.5rem;padding:.8rem;cursor:pointer}
button[value=approve]{background:var(--go)}button[value=reject]{background:var(--no)}
.check{display:flex;gap:.5rem;color:inherit;margin:.8rem 0 0}details{margin:.8rem 0 0}summary{color:var(--dim);cursor:pointer}
button:focus-visible,textarea:focus-visible,input:focus-visible,summary:focus-visible{outline:3px solid var(--focus);outline-offset:2px}small{color:var(--dim)}
"""

MAX_EDITED_CHARS = 20_000
"""Longer arguments are shown but cannot be edited here; the API accepts changed ones of any length."""

_CSP = content_security_policy(_STYLE, forms=True)


def question(view: ApprovalView, *, user_id: str) -> Response:
    """The page of a pending approval."""
    approval = view.approval
    until = f"{approval.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    runs = approval.policy.on_timeout is TimeoutAction.APPROVE
    otherwise = "it will run without one" if runs else "it will not run"
    return _page(
        200,
        f"Allow {approval.tool}?",
        f"""{_facts(approval)}{_votes(approval)}{_form(view, user_id)}<small>Signed in as {escape(user_id)}.
Without a decision by {until} {otherwise}.</small>""",
    )


def _form(view: ApprovalView, user_id: str) -> str:
    """The form with what this person may do."""
    if not view.may_decide:
        return f"<section>You may see this, but only {_deciders(view.approval)} can decide.</section>"
    policy = view.approval.policy
    given = next((vote for vote in view.approval.votes if vote.by == user_id), None)
    said = "" if given is None else f"<p>You voted {given.decision} already; a new vote replaces it.</p>"
    approve = '<button name="decision" value="approve">Approve</button>'
    more = ""
    if view.refusal is not None:
        said, approve = f"<p>{escape(view.refusal)}</p>", ""
    else:
        text = _pretty(view.approval.arguments)
        if policy.allow_changes and len(text) <= MAX_EDITED_CHARS:
            more += f"""<details><summary>Approve with other arguments</summary><textarea name="arguments"
aria-label="Arguments as JSON" rows="8" spellcheck="false">{escape(text)}</textarea></details>"""
        if policy.allow_for_session:
            more += f"""<label class="check"><input type="checkbox" name="for_session" value="true">
{escape(_grant(view.approval))}</label>"""
    return f"""<form method="post"><section>{said}<label for="comment">Comment (optional)</label>
<textarea id="comment" name="comment" maxlength="2000"></textarea>{more}
<div class="actions">{approve}<button name="decision" value="reject">Reject</button></div></section></form>"""


def _grant(approval: Approval) -> str:
    """What an approval for the rest of the session would allow."""
    version = "" if approval.agent_version is None else f", version {approval.agent_version}"
    agent = "this agent" if approval.agent_id is None else f"the agent {approval.agent_id}{version}"
    return (
        f"Also approve later calls of {approval.tool} in this session: by {agent}, in turns of {approval.requested_by}, "
        "unless the rule of two requires an approval of each"
    )


def voted(approval: Approval) -> Response:
    """The page after a vote, while more votes are needed."""
    return _page(
        200, "Your vote counts", f"<section>{_progress(approval)}</section>{_votes(approval)}{_facts(approval)}"
    )


def decided(approval: Approval, *, just_now: bool = False) -> Response:
    """The page of an approval that is no longer pending."""
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
    elif approval.status is ApprovalStatus.APPROVED:
        what = "Nobody decided in time. Its policy then lets the tool run."
    else:
        what = "Nobody decided in time, or the turn was cancelled. The tool was not run."
    status = 410 if approval.status is ApprovalStatus.TIMED_OUT else 200
    return _page(status, title, f"<section>{what}</section>{_votes(approval)}{_facts(approval)}")


def refusal(exc: AppError) -> Response:
    """An AppError as a page."""
    titles = {401: "Sign in first", 404: "No such approval", 409: "Already decided", 410: "Too late"}
    return note(exc.status, titles.get(exc.status, "That did not work"), exc.safe_message)


def note(status: int, title: str, text: str) -> Response:
    """A page with only a text."""
    return _page(status, title, f"<section>{escape(text)}</section>")


def _facts(approval: Approval) -> str:
    given = approval.arguments if approval.decided_arguments is None else approval.decided_arguments
    return f"""<section><dl><dt>Tool</dt><dd>{escape(approval.tool)}</dd>
<dt>Asked by</dt><dd>{escape(approval.requested_by)}</dd><dt>Session</dt><dd>{escape(approval.session_id)}</dd>
<dt>Asked at</dt><dd>{approval.requested_at:%Y-%m-%d %H:%M:%S} UTC</dd>
<dt>Decide by</dt><dd>{approval.expires_at:%Y-%m-%d %H:%M:%S} UTC</dd>
<dt>Policy</dt><dd>{_policy(approval)}</dd>{_reason(approval)}</dl></section>
<section><label>Exactly these arguments</label><pre>{escape(_pretty(given))}</pre></section>"""


def _reason(approval: Approval) -> str:
    return "" if approval.reason is None else f"<dt>Why it waits</dt><dd>{escape(approval.reason)}</dd>"


def _policy(approval: Approval) -> str:
    policy = approval.policy
    told = [f"Decided by {_deciders(approval)}"]
    if policy.quorum > 1:
        told.append(f"{policy.quorum} people must approve the same arguments, one may reject")
    if policy.forbid_self_approval:
        told.append("not by who asked")
    if policy.escalation_role is not None:
        told.append(f"after {policy.escalate_after_seconds} s also by the role {policy.escalation_role}")
    if not policy.allow_changes:
        told.append("the arguments cannot be changed")
    return "; ".join(told) + "."


def _deciders(approval: Approval) -> str:
    named = [f"the {role} role" for role in approval.policy.roles] + [escape(user) for user in approval.policy.users]
    return " or ".join(named)


def _votes(approval: Approval) -> str:
    """The votes so far; empty when a single decision was enough."""
    if not approval.votes or (approval.quorum == 1 and approval.decided_by):
        return ""
    lines = []
    for vote in approval.votes:
        said = "approved" if vote.decision is Decision.APPROVE else "rejected"
        line = f"<dt>{escape(vote.by)}</dt><dd>{said} at {vote.at:%Y-%m-%d %H:%M:%S} UTC"
        if vote.comment:
            line += f": {escape(vote.comment)}"
        if vote.arguments is not None:
            line += f", with these arguments:<pre>{escape(_pretty(vote.arguments))}</pre>"
        lines.append(f"{line}</dd>")
    return f"<section><label>{_progress(approval)}</label><dl>{''.join(lines)}</dl></section>"


def _progress(approval: Approval) -> str:
    so_far = approvals_so_far(approval.tool, approval.arguments, approval.votes)
    return f"{so_far} of {approval.quorum} required approvals so far."


def _pretty(arguments: JsonObject) -> str:
    # Invisible characters would run unseen, so they are shown escaped; parsed back, the arguments are the same.
    return revealed(json.dumps(arguments, indent=2, ensure_ascii=False))


def _page(status: int, title: str, body: str) -> Response:
    html = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="referrer" content="same-origin">
<title>{escape(title)} - Parley</title><style>{_STYLE}</style></head>
<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"""
    return Response(
        html,
        status_code=status,
        media_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": _CSP,
            "Cache-Control": "no-store",
            # Not no-referrer: the form would then send `Origin: null`, as another site's form does.
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        },
    )
