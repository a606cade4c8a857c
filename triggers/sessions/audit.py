"""The audit trail of a session, for its owner and for admins, and what the verification of all trails found."""

from __future__ import annotations

from datetime import datetime

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.audit.trail import AuditPage
from shared.sessions.audit.verification import AuditFindings
from triggers.http.endpoints import Call, Operation, endpoint, ok
from triggers.http.parameters import PAGING

bp = df.Blueprint()


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/audit",
        "get_audit",
        "The audit trail of a session, and whether it is intact",
        "Sessions",
        200,
        actions=(Action.READ_AUDIT_TRAIL,),
        returns=AuditPage,
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.DATABASE_ERROR),
    ),
)
async def get_audit(call: Call, _: None) -> Response:
    """For its owner and for admins, oldest first. Every response verifies the whole trail, not only its page."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    return ok(await call.services.audit.report(session_id, call.principal, call.page(int)))


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/audit/findings",
        "list_audit_findings",
        "Damaged audit trails, also of erased sessions",
        "Operations",
        200,
        returns=AuditFindings,
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.DATABASE_ERROR),
    ),
)
async def list_audit_findings(call: Call, _: None) -> Response:
    """For callers with the role admin. Every trail is verified in turn, without anybody opening it."""
    return ok(await call.services.audit_verification.findings(call.principal, call.page(datetime)))
