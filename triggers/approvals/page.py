"""The approver's HTML: readable on a phone, no script, nothing loaded from anywhere.

Everything from a model or a person is escaped text inside an element, never an attribute, a link or markup. The page
offers only what the policy allows this person, and the policy is checked again when the form arrives.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from html import escape

from azurefunctions.extensions.http.fastapi import Response

from shared.errors import AppError
from shared.sessions.approval import ApprovalView
from shared.sessions.approvals import timing
from shared.sessions.approvals.call_context import ApprovalContext
from shared.sessions.approvals.deciders import approvals_so_far
from shared.sessions.approvals.models import Approval
from shared.sessions.approvals.rules.conditions import named
from shared.sessions.approvals.rules.in_force import (
    in_words,
)
from shared.sessions.models import ApprovalStatus, Decision, JsonObject
from shared.sessions.records.approval_policy import ShownContext, TimeoutAction, same_of
from shared.visible import revealed
from triggers.approvals.context import section
from triggers.http.html import content_security_policy

_STYLE = """
/* The console's colours and sizes: web/src/ui/style.css. */
:root{color-scheme:light dark;--ink:#23282a;--dim:#596164;--paper:#faf8f4;--card:#fff;--line:#ddd6c9;--edge:#7d7667;--go:#2f5d62;--no:#a62b22;--on:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e1;--dim:#a3acab;--paper:#16191a;--card:#1e2324;--line:#343b3c;--edge:#7d8887;--go:#8ec5c0;--no:#f0998f;--on:#10201f}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 Inter,ui-sans-serif,system-ui,'Segoe UI',sans-serif}
main{max-width:44rem;margin:0 auto;padding:1.5rem 1rem 3rem}h1{font-size:1.4rem;margin:.2rem 0 1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem 1.2rem;margin:0 0 1rem}
dl{display:grid;grid-template-columns:auto 1fr;gap:.3rem 1rem;margin:0}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,'SF Mono','JetBrains Mono',Menlo,Consolas,monospace}
textarea{width:100%;min-height:4.5rem;font:inherit;color:inherit;background:transparent;border:1px solid var(--edge);border-radius:.4rem;padding:.5rem}
.told{margin:.2rem 0 .8rem;white-space:pre-wrap;overflow-wrap:anywhere}.told:last-child{margin-bottom:0}
section>h2,h3{font-size:1rem;margin:0 0 .2rem}h3{font-size:.9rem;font-weight:600;color:var(--dim)}.calls{margin:.4rem 0;padding-left:1.2rem}.calls li{margin:0 0 .6rem}.calls pre{background:var(--paper);padding:.3rem .5rem;border-radius:.3rem}
.warn{color:var(--no);font-weight:600}
label{display:block;color:var(--dim);margin:0 0 .3rem}.actions{display:flex;gap:.8rem;margin-top:1rem}
button{flex:1;font:inherit;font-weight:560;color:var(--on);border:0;border-radius:9px;padding:.8rem;cursor:pointer}
button[value=approve]{background:var(--go)}button[value=reject]{background:var(--no)}
.check{display:flex;gap:.5rem;color:inherit;margin:.8rem 0 0}details{margin:.8rem 0 0}summary{color:var(--dim);cursor:pointer;padding:.2rem 0}
button:focus-visible,textarea:focus-visible,input:focus-visible,summary:focus-visible{outline:3px solid var(--go);outline-offset:2px}small{color:var(--dim)}
"""

MAX_EDITED_CHARS = 20_000
"""Longer arguments are shown but cannot be edited here; the API accepts changed ones of any length."""

_CSP = content_security_policy(_STYLE, forms=True)


def question(view: ApprovalView, *, user_id: str, now: datetime) -> Response:
    """The page of a pending approval. now: aware UTC."""
    approval = view.approval
    until = f"{_time(approval.expires_at)} ({_left(approval.expires_at - now)})"
    runs = approval.policy.on_timeout is TimeoutAction.APPROVE
    otherwise = "it will run without one" if runs else "it will not run"
    return _page(
        200,
        f"Allow {approval.tool}?",
        f"""{_facts(approval, view.context, until)}{section(view.context)}{_arguments(approval)}{_votes(approval)}
{_form(view, user_id)}<small>Signed in as {escape(user_id)}.
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
        f"Also approve later calls of {approval.tool} in this session: by {agent}, in turns of {approval.requested_by}"
        f"{_bound(approval)}, unless the rule of two requires an approval of each"
    )


def _bound(approval: Approval) -> str:
    same = [named(argument) for argument in same_of(approval.policy.allow_for_session)]
    return f", with the same {' and '.join(same)}" if same else ""


def voted(approval: Approval) -> Response:
    """The page after a vote, while more votes are needed."""
    return _page(
        200,
        "Your vote counts",
        f"<section>{_progress(approval)}</section>{_votes(approval)}{_facts(approval)}{_arguments(approval)}",
    )


def decided(approval: Approval, context: ApprovalContext | None = None, *, just_now: bool = False) -> Response:
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
        at = "" if approval.decided_at is None else f" on {_time(approval.decided_at)}"
        what = f"{escape(approval.decided_by)} decided{at}."
    elif approval.status is ApprovalStatus.APPROVED:
        what = "Nobody decided in time. Its policy then lets the tool run."
    else:
        what = "Nobody decided in time, or the turn was cancelled. The tool was not run."
    status = 410 if approval.status is ApprovalStatus.TIMED_OUT else 200
    told = "" if context is None else section(context)
    return _page(
        status,
        title,
        f"<section>{what}</section>{_arguments(approval)}{_votes(approval)}{_facts(approval, context)}{told}",
    )


def refusal(exc: AppError) -> Response:
    """An AppError as a page."""
    titles = {401: "Sign in first", 404: "No such approval", 409: "Already decided", 410: "Too late"}
    return note(exc.status, titles.get(exc.status, "That did not work"), exc.safe_message)


def note(status: int, title: str, text: str) -> Response:
    """A page with only a text."""
    return _page(status, title, f"<section>{escape(text)}</section>")


def _facts(approval: Approval, context: ApprovalContext | None = None, until: str | None = None) -> str:
    """until: as HTML; None where there is nothing left to decide."""
    agent = "" if approval.agent_id is None else f", version {approval.agent_version}"
    named = "" if approval.agent_id is None else f"<dt>Agent</dt><dd>{escape(approval.agent_id)}{agent}</dd>"
    session = ""
    if context is not None and context.shows is not ShownContext.NONE:
        session = f"<dt>Session</dt><dd>{escape(context.session_name or 'untitled')}</dd>"
    deadline = "" if until is None else f"<dt>Decide by</dt><dd>{until}</dd>"
    return f"""<section><dl><dt>Tool</dt><dd>{escape(approval.tool)}</dd>
<dt>Asked by</dt><dd>{escape(approval.requested_by)}</dd>{_through(approval)}{named}{session}
<dt>Asked on</dt><dd>{_time(approval.requested_at)}</dd>{deadline}
<dt>Policy</dt><dd>{_policy(approval)}</dd>{_reason(approval)}{_server(approval)}</dl></section>"""


def _arguments(approval: Approval) -> str:
    """What would run, or did; beside changed arguments, those that had been asked for."""
    label = {
        ApprovalStatus.PENDING: "Exactly these arguments",
        ApprovalStatus.APPROVED: "Approved with exactly these arguments",
    }.get(approval.status, "These arguments did not run")
    if approval.decided_arguments is None:
        return f"<section><label>{label}</label><pre>{escape(_pretty(approval.arguments))}</pre></section>"
    return f"""<section><label>Approved with these changed arguments</label><pre>{
        escape(_pretty(approval.decided_arguments))
    }</pre><details><summary>What had been asked for</summary><pre>{
        escape(_pretty(approval.arguments))
    }</pre></details></section>"""


def _time(at: datetime) -> str:
    """For people anywhere: the page has no script that knows their zone."""
    return f'<time datetime="{at.astimezone(UTC).isoformat(timespec="seconds")}">{timing.in_words(at)}</time>'


def _left(left: timedelta) -> str:
    """How long there is, in any zone: "in 3 hours 20 minutes"."""
    minutes = max(0, int(left.total_seconds()) // 60)
    days, hours = minutes // 1_440, minutes // 60 % 24
    parts = [(days, "day"), (hours, "hour"), (0 if days else minutes % 60, "minute")]
    told = " ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count)
    return f"in {told}" if told else "in less than a minute"


def _through(approval: Approval) -> str:
    """For a subagent, who called whom."""
    if not approval.asked_through:
        return ""
    return f"<dt>Through</dt><dd>{escape(' → '.join([*approval.asked_through, approval.agent_id or '']))}</dd>"


def _reason(approval: Approval) -> str:
    return "" if approval.reason is None else f"<dt>Why it waits</dt><dd>{escape(approval.reason)}</dd>"


def _server(approval: Approval) -> str:
    """For a tool of an MCP server, whose it is and what is said of it there."""
    told = approval.definition
    if told is None:
        return ""
    return f"""<dt>MCP server</dt><dd>{escape(told.server)} at {escape(told.url)}</dd>
<dt>It says of the tool</dt><dd>{escape(told.description or told.title or "nothing")}</dd>
<dt>Definition</dt><dd>{escape(told.tool)}, SHA-256 {escape(told.digest)}</dd>"""


def _policy(approval: Approval) -> str:
    policy = approval.policy
    told = [f"Decided by {_deciders(approval)}"]
    rules = [one for one in approval.requirements if one.rule is not None]
    told += [f"the rule “{escape(one.rule or '')}” takes {escape(in_words(one))}" for one in rules]
    if not rules and policy.quorum > 1:
        told.append(f"{policy.quorum} people must approve the same arguments")
    if policy.quorum > 1 or len(rules) > 1:
        told.append("one may reject")
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
    is_one = approval.quorum == 1 and len(approval.requirements) == 1
    if not approval.votes or (is_one and approval.decided_by):
        return ""
    lines = []
    for vote in approval.votes:
        said = "approved" if vote.decision is Decision.APPROVE else "rejected"
        line = f"<dt>{escape(vote.by)}</dt><dd>{said} on {_time(vote.at)}"
        if vote.comment:
            line += f": {escape(vote.comment)}"
        if vote.arguments is not None:
            line += f", with these arguments:<pre>{escape(_pretty(vote.arguments))}</pre>"
        lines.append(f"{line}</dd>")
    return f"<section><label>{_progress(approval)}</label><dl>{''.join(lines)}</dl></section>"


def _progress(approval: Approval) -> str:
    rules = [one for one in approval.requirements if one.rule is not None]
    if rules:
        told = [f"{one.approvals} of {one.quorum} for the rule “{escape(one.rule or '')}”" for one in rules]
        return f"Required approvals so far: {', '.join(told)}."
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
