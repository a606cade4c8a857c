"""Why a tool call does not run at all, whatever its tool is: nobody has allowed it, or it is over already."""

from __future__ import annotations

from shared.errors import ErrorCode
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.grants import is_granted
from shared.sessions.approvals.needed import requires_approval
from shared.sessions.approvals.rules.in_force import in_force
from shared.sessions.calls.outcomes import CANCELLED, CANCELLED_ASKING, Outcome, failed, rejected
from shared.sessions.models import ApprovalStatus, JsonObject, WaitKind, WaitStatus
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.tool_calls import ToolExecution
from shared.sessions.tools.of_plan import tool_of


def refusal(call: ToolExecution) -> Outcome | None:
    """Why a call does not run at all."""
    if call.declined:
        content: JsonObject = {
            "status": "rejected",
            "error": "Exactly this was declined before; nobody is asked again.",
        }
        return rejected(ErrorCode.APPROVAL_REJECTED, content)
    if call.approval_status is ApprovalStatus.REJECTED:
        content = {"status": "rejected", "by": call.decided_by, "error": f"Rejected by {call.decided_by}."}
        if call.comment:
            content["comment"] = call.comment
        return rejected(ErrorCode.APPROVAL_REJECTED, content)
    if call.approval_status is ApprovalStatus.TIMED_OUT:
        content = {"status": "timed_out", "error": "Nobody approved it in time, so it was not run."}
        return rejected(ErrorCode.APPROVAL_TIMEOUT, content)
    if call.cancelled or call.approval_status is ApprovalStatus.CANCELLED:
        return failed(ErrorCode.TOOL_EXECUTION_FAILED, CANCELLED if call.wait is None else CANCELLED_ASKING)
    if call.wait is not None and call.wait.wait.status is WaitStatus.TIMED_OUT:
        asked = call.wait.wait.kind is WaitKind.INPUT
        late = (
            "The user was asked for input and did not answer in time." if asked else "Its result did not come in time."
        )
        return failed(ErrorCode.TOOL_TIMEOUT, late)
    if call.argument_error is not None:
        known = call.name in call.plan.tools and tool_of(call.name, call.plan) is not None
        return failed(ErrorCode.INVALID_TOOL_ARGS if known else ErrorCode.TOOL_NOT_FOUND, call.argument_error)
    if call.needs_approval and call.approval_status is not ApprovalStatus.APPROVED:
        return failed(ErrorCode.APPROVAL_REQUIRED, "This call needs an approval that it does not have.")
    if _takes_a_person(call) and (call.approval_status is not ApprovalStatus.APPROVED or call.decided_by is None):
        # Whatever marked it as needing nobody, or said yes for those who did not answer.
        return failed(ErrorCode.APPROVAL_REQUIRED, "This call needs a person's approval, and it does not have one.")
    if by_grant(call) and not _is_granted(call):
        return failed(ErrorCode.APPROVAL_REQUIRED, "This call needs an approval that it does not have.")
    return None


def by_grant(call: ToolExecution) -> bool:
    """Whether it waited for nobody only because the tool was approved for the rest of the session."""
    tool = tool_of(call.name, call.plan)
    if call.needs_approval or tool is None:
        return False
    return requires_approval(tool, call.plan, in_force(call.plan.policy_of(call.name), tool, call.arguments))


def digest_of(call: ToolExecution, arguments: JsonObject) -> str:
    """Of what a call would run with: its name, these arguments, and the pinned definition of its tool."""
    return arguments_digest(call.name, arguments, call.plan.definition_of(call.name))


def _takes_a_person(call: ToolExecution) -> bool:
    """Whether the rule of two holds for it."""
    return call.contained and call.plan.containment is not Containment.OFF


def _is_granted(call: ToolExecution) -> bool:
    tool = tool_of(call.name, call.plan)
    force = in_force(call.plan.policy_of(call.name), tool, call.arguments)
    return tool is not None and is_granted(
        tool, call.arguments, call.plan, force, call.requested_by, call.granted_tools
    )
