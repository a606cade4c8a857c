"""Approvals through the API: the inbox, one approval, the decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client
from activities.approvals import tell_decision
from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.approvals.call_context import ApprovalContext
from shared.sessions.approvals.models import Approval, NewDecision
from shared.sessions.models import ApprovalStatus
from shared.sessions.records.pages import ApprovalFilter, ApprovalScope
from triggers.http.endpoints import Call, Operation, endpoint, ok, page_of
from triggers.http.parameters import PAGING, Parameter, text

bp = df.Blueprint()

_IN_STATE = Parameter("status", "Only in this state", values=ApprovalStatus)
_OF_TOOL = Parameter("tool", "Only calls of this tool", text(64))


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/approvals",
        "list_approvals",
        "The approvals that the caller may decide",
        "Approvals",
        200,
        returns=list[Approval],
        parameters=(
            Parameter(
                "scope",
                "`to_decide`, the default, or `own_turns`: what turns wait for that the caller asked for, in sessions"
                " that the caller may read, whoever decides",
                values=ApprovalScope,
            ),
            _IN_STATE,
            Parameter("session_id", "Only of this session", text(64)),
            _OF_TOOL,
            *PAGING,
        ),
    ),
)
async def list_approvals(call: Call, _: None) -> Response:
    """Newest first. An approval is listed for its policy's roles and users, and later for its escalation role."""
    wanted = replace(_filter(call), session_id=call.query("session_id"))
    approvals = call.services.approvals
    is_own = call.query_as("scope", ApprovalScope) is ApprovalScope.OWN_TURNS
    items, cursor = await (approvals.of_own_turns if is_own else approvals.inbox)(
        call.principal, wanted, call.page(datetime)
    )
    return page_of(items, cursor)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/approvals",
        "list_session_approvals",
        "The approvals of a session",
        "Approvals",
        200,
        actions=(Action.READ,),
        returns=list[Approval],
        parameters=(_IN_STATE, Parameter("turn_id", "Only of this turn", text(64)), _OF_TOOL, *PAGING),
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_session_approvals(call: Call, _: None) -> Response:
    """Newest first. For everyone who may read the session, whether or not they may decide."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    wanted = replace(_filter(call), turn_id=call.query("turn_id"))
    items, cursor = await call.services.approvals.of_session(session_id, call.principal, wanted, call.page(datetime))
    return page_of(items, cursor)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/approvals/{approval_id}",
        "get_approval",
        "One approval",
        "Approvals",
        200,
        actions=(Action.READ,),
        returns=Approval,
        errors=(ErrorCode.TOOL_NOT_FOUND,),
    ),
)
async def get_approval(call: Call, _: None) -> Response:
    """For those who may decide it, and for those who may read its session."""
    return ok(await call.services.approvals.get(_approval_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/approvals/{approval_id}/context",
        "get_approval_context",
        "What led to the call of an approval",
        "Approvals",
        200,
        actions=(Action.READ,),
        returns=ApprovalContext,
        errors=(ErrorCode.TOOL_NOT_FOUND,),
    ),
)
async def get_approval_context(call: Call, _: None) -> Response:
    """For those who see the approval. Bounded excerpts of the turn that made the call, and of nothing else in its
    session; the policy's `context` may narrow them for those who are not in the session."""
    return ok(await call.services.approvals.context(_approval_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/approvals/{approval_id}/decision",
        "decide_approval",
        "Approve or reject",
        "Approvals",
        200,
        body=NewDecision,
        returns=Approval,
        errors=(
            ErrorCode.TOOL_NOT_FOUND,
            ErrorCode.CONFLICT,
            ErrorCode.APPROVAL_TIMEOUT,
            ErrorCode.INVALID_TOOL_ARGS,
        ),
    ),
    sends=True,
    durable=True,
)
async def decide_approval(call: Call, body: NewDecision) -> Response:
    """Repeating a decision is fine; a different one is a CONFLICT. `arguments` approves with changed arguments.

    When the policy needs several people, the response shows the votes so far. Until the approval is decided, a person's
    newest vote replaces the one before.
    """
    return ok(await decide(call, _approval_id(call), body))


async def decide(call: Call, approval_id: str, body: NewDecision) -> Approval:
    """Record the caller's vote, and tell the orchestration that waits when it decides. Raises as
    `ToolApprovalManager.decide`."""
    decided = await call.services.approvals.decide(approval_id, body, call.principal)
    call.events = [*call.events, *decided.messages]
    if decided.must_be_delivered and await durable_client.raise_decision(
        call.durable, decided.instance_id, decided.approval.id
    ):
        await tell_decision(call.durable, decided.approval.id)
    return decided.approval


def _filter(call: Call) -> ApprovalFilter:
    return ApprovalFilter(status=call.query_as("status", ApprovalStatus), tool=call.query("tool"))


def _approval_id(call: Call) -> str:
    return call.id("approval_id", ErrorCode.TOOL_NOT_FOUND)
