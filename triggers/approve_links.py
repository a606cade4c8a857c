"""The approve link: a page that shows what would run, and the form that decides.

GET changes nothing, however often a mail scanner follows the link; only the form's POST decides, as the signed-in
caller. The token says which approval it is, never who decides.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client
from shared.errors import AppError
from shared.ids import is_valid_id
from shared.sessions.models import Approval, ApprovalStatus, Decision, NewDecision
from shared.signing import TokenExpired, TokenInvalid
from triggers import approve_page as page
from triggers.http import Call, Operation, endpoint

bp = df.Blueprint()

_PATH = "/api/approve/{token}"
_MAX_FORM_BYTES = 16 * 1024


@endpoint(
    bp,
    Operation(
        "GET",
        _PATH,
        "approve_page",
        "The approver's page",
        "Approvals",
        200,
        media_type="text/html",
        also={410: "The link's time is over", 404: "No link of ours"},
    ),
)
async def approve_page(call: Call, _: None) -> Response:
    """What would run, with which arguments, until when. Changes nothing."""
    approval = await _approval(call)
    if isinstance(approval, Response):
        return approval
    await call.services.audit.record(
        approval.session_id, "approval.viewed", {"approval_id": approval.id, "by": call.principal.user_id}
    )
    if approval.status is not ApprovalStatus.PENDING:
        return page.decided(approval)
    return page.question(approval, may_decide=call.principal.may_approve, user_id=call.principal.user_id)


@endpoint(
    bp,
    Operation(
        "POST",
        _PATH,
        "approve_decision",
        "Decide by link (form `decision`, `comment?`)",
        "Approvals",
        200,
        media_type="text/html",
        form={
            "type": "object",
            "required": ["decision"],
            "properties": {
                "decision": {"type": "string", "enum": [*Decision]},
                "comment": {"type": "string", "maxLength": 2_000},
            },
        },
        also={
            400: "Not a decision",
            401: "Not signed in",
            404: "No link of ours",
            409: "Already decided otherwise",
            410: "The link's time is over",
        },
    ),
    sends=True,
    durable=True,
)
async def approve_decision(call: Call, _: None) -> Response:
    """Raises the event that the waiting turn sleeps on."""
    approval = await _approval(call)
    if isinstance(approval, Response):
        return approval
    body = await _form(call)
    if body is None:
        return page.note(400, "That was not a decision", "The form takes decision=approve or decision=reject.")
    try:
        decided = await call.services.approvals.decide(approval.id, body, call.principal)
    except AppError as exc:
        return page.refusal(exc)
    call.events = decided.messages
    await durable_client.raise_decision(call.durable, decided.instance_id, approval.id)
    return page.decided(decided.approval, just_now=decided.new)


async def _approval(call: Call) -> Approval | Response:
    """The approval a link names, or the page that says why there is none."""
    token = str(call.request.path_params.get("token", ""))
    try:
        approval_id = call.services.links.approval_id(token, now=datetime.now(UTC))
    except TokenExpired:
        return page.note(410, "Too late", "The time to decide is over. The tool call was not run.")
    except TokenInvalid:
        return page.note(404, "No such link", "This approval link is not complete, or not one of ours.")
    if not is_valid_id(approval_id):
        return page.note(404, "No such link", "This approval link is not one of ours.")
    try:
        return await call.services.approvals.get(approval_id, call.principal)
    except AppError as exc:
        return page.refusal(exc)


async def _form(call: Call) -> NewDecision | None:
    data = bytearray()
    async for chunk in call.request.stream():
        data += chunk
        if len(data) > _MAX_FORM_BYTES:
            return None
    try:
        fields = parse_qs(bytes(data).decode(), max_num_fields=10)
        decision = Decision(fields["decision"][0])
        comment = fields.get("comment", [""])[0].strip().replace("\x00", "")
        return NewDecision(decision=decision, comment=comment[:2_000] or None)
    except (KeyError, ValueError, UnicodeDecodeError):
        return None
