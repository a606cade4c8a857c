"""The approve link: a page that shows what would run, and the form that decides.

GET changes nothing, so mail scanners may follow the link; only the form's POST decides, as the signed-in caller. The
token names the approval, never who decides. A browser sends the caller's cookies with any site's form, so forms of
other sites are refused (CSRF).
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs

import azure.durable_functions as df
import orjson
from azurefunctions.extensions.http.fastapi import Response
from pydantic import ValidationError

from activities import durable_client
from activities.approvals import tell_decision
from shared.errors import AppError, ErrorCode, InvalidInput
from shared.ids import is_valid_id
from shared.sessions.approval import ApprovalView
from shared.sessions.approvals.models import NewDecision
from shared.sessions.audit.notes import viewed
from shared.sessions.models import ApprovalStatus, Decision, JsonObject
from shared.signing import TokenExpired, TokenInvalid
from triggers.approvals import page
from triggers.http.bodies import body_chunks, json_fault
from triggers.http.endpoints import Call, Operation, endpoint, is_cross_site

bp = df.Blueprint()

_PATH = "/api/approve/{token}"
_MAX_FORM_BYTES = 256 * 1024
"""More than ten times MAX_EDITED_CHARS: UTF-8 takes up to 4 bytes a character, percent-encoding 3 characters a byte."""


@endpoint(
    bp,
    Operation(
        "GET",
        _PATH,
        "approve_page",
        "The approver's page",
        "Approvals",
        200,
        operation_id="show_approval_page",
        media_type="text/html",
        also={410: "The link has expired", 404: "Not a valid approval link"},
    ),
)
async def approve_page(call: Call, _: None) -> Response:
    """Shows what would run, with which arguments, and until when. Changes nothing."""
    view = await _view(call)
    if isinstance(view, Response):
        return view
    approval = view.approval
    await call.services.audit_trail.record(approval.session_id, viewed(approval.id, call.principal.user_id))
    if approval.status is not ApprovalStatus.PENDING:
        return page.decided(approval, view.context)
    return page.question(view, user_id=call.principal.user_id, now=datetime.now(UTC))


@endpoint(
    bp,
    Operation(
        "POST",
        _PATH,
        "approve_decision",
        "Decide by link (a form)",
        "Approvals",
        200,
        operation_id="submit_approval_page",
        media_type="text/html",
        form={
            "type": "object",
            "required": ["decision"],
            "properties": {
                "decision": {"type": "string", "enum": [*Decision]},
                "comment": {"type": "string", "maxLength": 2_000},
                "arguments": {"type": "string", "description": "JSON object: approve with these arguments instead"},
                "for_session": {"type": "string", "enum": ["true"]},
            },
        },
        also={
            400: "Not a decision",
            401: "Not signed in",
            403: "The form was sent by another site",
            404: "Not a valid approval link, or the caller may not decide",
            409: "Already decided otherwise, or the caller's own request",
            410: "The link has expired",
            422: "The policy or the tool does not allow this",
        },
    ),
    sends=True,
    durable=True,
)
async def approve_decision(call: Call, _: None) -> Response:
    """Decides, and raises the external event that the turn waits for."""
    if is_cross_site(call.request, call.services.settings.public_base_url):
        return page.note(403, "Not from here", "This form was sent by another site. Open the approval link itself.")
    view = await _view(call)
    if isinstance(view, Response):
        return view
    try:
        body = await _form(call)
        if body is None:
            return page.note(400, "That was not a decision", "The form takes decision=approve or decision=reject.")
        if view.refusal is not None and body.decision is Decision.APPROVE:
            return page.note(409, "Not by you", view.refusal)
        decided = await call.services.approvals.decide(view.approval.id, body, call.principal)
    except AppError as exc:
        return page.refusal(exc)
    call.events = decided.messages
    if not decided.must_be_delivered:
        return page.voted(decided.approval)
    if await durable_client.raise_decision(call.durable, decided.instance_id, decided.approval.id):
        await tell_decision(call.durable, decided.approval.id)
    return page.decided(decided.approval, just_now=decided.new)


async def _view(call: Call) -> ApprovalView | Response:
    """The approval that a link names, or a page with the reason why it cannot be shown."""
    token = str(call.request.path_params.get("token", ""))
    try:
        approval_id = call.services.links.approval_id(token, now=datetime.now(UTC))
    except TokenExpired:
        return page.note(410, "Too late", "The time to decide is over. The tool call was not run.")
    except TokenInvalid:
        return page.note(404, "No such link", "This approval link is incomplete or invalid.")
    if not is_valid_id(approval_id):
        return page.note(404, "No such link", "This approval link is invalid.")
    try:
        return await call.services.approvals.view(approval_id, call.principal)
    except AppError as exc:
        return page.refusal(exc)


async def _form(call: Call) -> NewDecision | None:
    """The decision; None when the form holds none, or a field twice. Raises InvalidInput for invalid arguments, and for
    a form that is cut off."""
    data = bytearray()
    async for chunk in body_chunks(call.request):
        data += chunk
        if len(data) > _MAX_FORM_BYTES:
            return None
    try:
        fields = parse_qs(bytes(data).decode(), max_num_fields=10)
        decision = Decision(fields["decision"][0])
    except (KeyError, ValueError, UnicodeDecodeError):
        return None
    if any(len(values) > 1 for values in fields.values()):
        return None  # no telling which of them was meant
    comment = fields.get("comment", [""])[0].strip().replace("\x00", "")
    # Both buttons send all fields of the page; a rejection ignores changed arguments and the session's grant.
    approves = decision is Decision.APPROVE
    arguments = fields.get("arguments", [""])[0].strip() if approves else ""
    try:
        return NewDecision(
            decision=decision,
            comment=comment[:2_000] or None,
            arguments=_arguments(arguments) if arguments else None,
            for_session=approves and fields.get("for_session") == ["true"],
        )
    except ValidationError:
        raise _not_arguments() from None


def _arguments(text: str) -> JsonObject:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _not_arguments() from None
    if not isinstance(value, dict):
        raise _not_arguments()
    fault = json_fault(text)
    if fault is not None:
        raise InvalidInput(
            ErrorCode.INVALID_TOOL_ARGS, f"The argument {fault.field} {fault.message}. No decision was made."
        )
    return value


def _not_arguments() -> InvalidInput:
    return InvalidInput(ErrorCode.INVALID_TOOL_ARGS, "The arguments are not a JSON object. No decision was made.")
