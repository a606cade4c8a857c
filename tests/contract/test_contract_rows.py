"""The OpenAPI document against the rows of the wire contract: every route, parameter, body, answer and enumeration.

The document is made from the code, so it cannot tell what the code lacks; these rows are written out here. More than
they say may be there, nothing of it may be missing.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.wire import WireContract

LIST = {"limit", "cursor"}

ROUTES: dict[str, tuple[int, str | None, str | None, set[str]]] = {
    # status, model of the body, model of the answer (a list: "[...]"), parameters
    "POST /sessions": (201, "NewSession", "Session", {"Idempotency-Key"}),
    "GET /sessions": (200, None, "[ListedSession]", LIST | {"status", "tag", "agent_id", "q", "pinned", "sort"}),
    "GET /sessions/{session_id}": (200, None, "Session", set()),
    "PATCH /sessions/{session_id}": (200, "SessionPatch", "Session", {"If-Match"}),
    "DELETE /sessions/{session_id}": (204, None, None, {"If-Match"}),
    "POST /sessions/{session_id}/activate": (200, None, "Session", set()),
    "POST /sessions/{session_id}/suspend": (200, None, "Session", set()),
    "POST /sessions/{session_id}/resume": (200, None, "Session", set()),
    "POST /sessions/{session_id}/end": (200, None, "Session", set()),
    "POST /sessions/{session_id}/fork": (201, "NewFork", "Session", set()),
    "GET /sessions/{session_id}/participants": (200, None, "[Participant]", LIST),
    "GET /sessions/{session_id}/participants/{user_id}": (200, None, "Participant", set()),
    "PUT /sessions/{session_id}/participants/{user_id}": (200, "NewParticipant", "Participant", set()),
    "DELETE /sessions/{session_id}/participants/{user_id}": (204, None, None, set()),
    "POST /sessions/{session_id}/messages": (202, "NewMessage", "PostedTurn", {"Idempotency-Key"}),
    "GET /sessions/{session_id}/messages": (200, None, "[Message]", LIST | {"role", "from", "to", "q", "order"}),
    "GET /sessions/{session_id}/messages/{message_id}": (200, None, "Message", set()),
    "POST /sessions/{session_id}/messages/{message_id}/regenerate": (202, "Regeneration", "PostedTurn", set()),
    "POST /sessions/{session_id}/messages/{message_id}/edit": (202, "NewMessage", "PostedTurn", {"Idempotency-Key"}),
    "PUT /sessions/{session_id}/pin": (204, None, None, set()),
    "DELETE /sessions/{session_id}/pin": (204, None, None, set()),
    "GET /sessions/{session_id}/turns": (200, None, "[Turn]", LIST),
    "GET /sessions/{session_id}/turns/{turn_id}": (200, None, "Turn", set()),
    "POST /sessions/{session_id}/turns/{turn_id}/cancel": (202, None, "Turn", set()),
    "GET /sessions/{session_id}/turns/{turn_id}/stream": (200, None, "text/event-stream", {"Last-Event-ID"}),
    "GET /sessions/{session_id}/events": (200, None, "EventPage", {"after"}),
    "GET /tools": (200, None, "[ToolInfo]", LIST),
    "GET /approvals": (200, None, "[Approval]", LIST | {"status", "session_id", "tool"}),
    "GET /sessions/{session_id}/approvals": (200, None, "[Approval]", LIST),
    "GET /approvals/{approval_id}": (200, None, "Approval", set()),
    "POST /approvals/{approval_id}/decision": (200, "NewDecision", "Approval", set()),
    "GET /api/approve/{token}": (200, None, "text/html", set()),
    "POST /api/approve/{token}": (200, None, "text/html", set()),
    "POST /realtime/negotiate": (200, None, "ConnectionInfo", set()),
    "POST /sessions/{session_id}/subscribe": (200, "Subscription", "Subscribed", set()),
    "POST /sessions/{session_id}/unsubscribe": (200, "Subscription", "Unsubscribed", set()),
    "POST /sessions/{session_id}/bookmarks": (201, "NewBookmark", "Bookmark", set()),
    "GET /sessions/{session_id}/bookmarks": (200, None, "[Bookmark]", LIST),
    "GET /sessions/{session_id}/bookmarks/{bookmark_id}": (200, None, "Bookmark", set()),
    "DELETE /sessions/{session_id}/bookmarks/{bookmark_id}": (204, None, None, set()),
    "GET /search": (200, None, "[SearchHit]", LIST | {"q", "session_id", "role", "from", "to"}),
    "GET /sessions/{session_id}/export": (200, None, "application/json", {"format"}),
    "POST /sessions/{session_id}/attachments": (201, None, "AttachmentDetail", set()),
    "GET /attachments/{attachment_id}": (200, None, "AttachmentDetail", set()),
    "GET /attachments/{attachment_id}/content": (200, None, "application/octet-stream", set()),
    "GET /tags": (200, None, "[Tag]", LIST),
    "POST /tags": (201, "NewTag", "Tag", set()),
    "DELETE /tags": (204, None, None, set()),
    "PUT /sessions/{session_id}/tags/{name}": (200, None, "Session", set()),
    "DELETE /sessions/{session_id}/tags/{name}": (200, None, "Session", set()),
    "GET /templates": (200, None, "[Template]", LIST),
    "POST /templates": (201, "NewTemplate", "Template", set()),
    "GET /templates/{template_id}": (200, None, "Template", set()),
    "DELETE /templates/{template_id}": (204, None, None, set()),
    "GET /sessions/{session_id}/statistics": (200, None, "SessionStatistics", set()),
    "GET /statistics": (200, None, "PeriodStatistics", {"from", "to"}),
    "POST /sessions/{session_id}/checkpoints": (201, "NewCheckpoint", "Checkpoint", set()),
    "GET /sessions/{session_id}/checkpoints": (200, None, "[Checkpoint]", LIST),
    "POST /sessions/{session_id}/recover": (200, "Recovery", "Session", set()),
    "GET /health/live": (200, None, "Alive", set()),
    "GET /health/ready": (200, None, "Ready", set()),
    "GET /metrics": (200, None, "text/plain", set()),
    "GET /agents": (200, None, "[Agent]", LIST),
    "GET /agents/{agent_id}": (200, None, "Agent", set()),
    "PUT /agents/{agent_id}": (200, "NewAgent", "Agent", set()),
    "GET /openapi.json": (200, None, "application/json", set()),
    "GET /api/docs": (200, None, "text/html", set()),
}

REFUSALS: dict[str, set[int]] = {
    "POST /sessions": {409, 422},
    "GET /sessions/{session_id}": {404},
    "PATCH /sessions/{session_id}": {404, 409, 422},
    "POST /sessions/{session_id}/activate": {400, 404, 410},
    "POST /sessions/{session_id}/messages": {404, 409, 410, 413, 422, 429},
    "POST /sessions/{session_id}/turns/{turn_id}/cancel": {404},
    "POST /approvals/{approval_id}/decision": {404, 409, 410, 422},
    "GET /api/approve/{token}": {404, 410},
    "POST /api/approve/{token}": {404, 409, 410},
    "GET /sessions/{session_id}/participants": {404},
    "DELETE /tags": {422},
}

HEADERS: dict[str, set[str]] = {
    "POST /sessions": {"Location", "ETag"},
    "GET /sessions/{session_id}": {"ETag"},
    "PATCH /sessions/{session_id}": {"ETag"},
    "POST /sessions/{session_id}/messages": {"Location"},
}

MODELS: dict[str, set[str]] = {
    "Session": {"id", "name", "status", "agent_id", "config", "tags", "metadata", "created_at", "updated_at"},
    "NewSession": {"name", "agent_id", "template", "config", "tags", "metadata", "id"},
    "NewFork": {"message_id", "checkpoint_id"},
    "Participant": {"user_id", "access"},
    "Message": {
        *("id", "session_id", "turn_id", "role", "content", "attachments", "tool_calls", "status", "created_at"),
        *("finish_reason", "author"),
    },
    "ToolCall": {"id", "message_id", "name", "arguments", "status", "result"},
    "SessionConfig": {
        *("model", "temperature", "max_output_tokens", "max_steps", "approval_mode", "approval_timeout_seconds"),
        *("tool_timeout_seconds", "max_context_tokens", "concurrency", "expires_after_seconds"),
        *("reasoning_effort", "output_schema"),
    },
    "NewMessage": {"content", "attachment_ids", "approval_mode", "concurrency"},
    "PostedTurn": {"message", "turn"},
    "Turn": {
        *("id", "session_id", "message_id", "status", "steps", "tool_calls", "usage", "created_at", "started_at"),
        *("ended_at", "error"),
    },
    "Usage": {"input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"},
    "Approval": {
        *("id", "tool_call_id", "session_id", "turn_id", "tool", "arguments", "status", "requested_at", "expires_at"),
        *("decided_by", "decided_at", "comment"),
    },
    "NewDecision": {"decision", "arguments", "comment"},
    "NewBookmark": {"message_id", "note"},
    "Recovery": {"checkpoint_id"},
    "ConnectionInfo": {"url", "accessToken"},
    "Subscription": {"connection_id"},
    "ToolInfo": {"name", "description", "parameters", "approval", "idempotent", "timeout_seconds"},
    "Problem": {"type", "title", "status", "detail", "code", "correlation_id", "errors"},
}

VALUES: dict[str, set[str]] = {
    "SessionStatus": {"CREATED", "ACTIVE", "SUSPENDED", "ENDED"},
    "MessageRole": {"user", "assistant", "system", "tool"},
    "ToolCallStatus": {"pending", "approved", "rejected", "completed", "failed"},
    # The contract knows no `waiting_input`; only a turn with a question or a late result is ever that.
    "TurnStatus": {"queued", "running", "waiting_approval", "waiting_input", "completed", "failed", "cancelled"},
    "ApprovalStatus": {"pending", "approved", "rejected", "timed_out", "cancelled"},
    "ApprovalMode": {"auto", "manual", "policy"},
    "Concurrency": {"reject", "enqueue", "interrupt", "steer"},
    "Decision": {"approve", "reject"},
    "FinishReason": {"stop", "tool_calls", "length", "content_filter", "refusal", "cancelled"},
}

EXPORTS = {"json", "md", "html", "csv", "pdf", "docx"}


def _operation(contract: WireContract, route: str) -> dict[str, Any]:
    method, path = route.split(" ")
    full = path if path.startswith("/api/") else f"/api/v1{path}"
    found = contract.document["paths"].get(full, {}).get(method.lower())
    assert found is not None, f"{route} is not described"
    return dict(found)


def _named(schema: dict[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _answer(contract: WireContract, content: dict[str, Any]) -> str | None:
    """As the rows name it: a model, a list of one, or a media type."""
    if "application/json" not in content:
        return next(iter(content), None)
    name = _named(content["application/json"]["schema"])
    page = contract.document["components"]["schemas"].get(name, {})
    if set(page.get("required", ())) == {"items", "next_cursor"}:
        item = _named(page["properties"]["items"]["items"])
        assert name == f"{item}Page", "a page is named after its items"
        return f"[{item}]"
    return name or "application/json"


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_of_the_contract_takes_and_answers_what_it_says(contract: WireContract, route: str) -> None:
    status, body, answer, parameters = ROUTES[route]
    operation = _operation(contract, route)
    success = operation["responses"][str(status)]
    content = success.get("content", {})

    told = _answer(contract, content)
    assert told == answer or answer in content, told
    if body is None:
        assert "application/json" not in operation.get("requestBody", {}).get("content", {})
    else:
        assert _named(operation["requestBody"]["content"]["application/json"]["schema"]) == body
    assert parameters <= {parameter["name"] for parameter in operation["parameters"]}
    assert REFUSALS.get(route, set()) <= {int(code) for code in operation["responses"]}
    assert HEADERS.get(route, set()) | {"x-correlation-id"} <= success["headers"].keys()
    for code in ("429", "503"):
        refused = operation["responses"].get(code, {"content": {}})
        if "application/problem+json" in refused["content"]:
            assert "Retry-After" in refused["headers"], code


def test_every_list_of_the_document_comes_in_pages(contract: WireContract) -> None:
    for path, methods in contract.document["paths"].items():
        for method, operation in methods.items():
            content = operation["responses"].get("200", {}).get("content", {})
            if (_answer(contract, content) or "").startswith("["):
                limits = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
                assert limits.keys() >= LIST, f"{method} {path}"
                assert (limits["limit"]["default"], limits["limit"]["maximum"]) == (50, 200), path


@pytest.mark.parametrize("model", MODELS)
def test_a_shape_of_the_contract_has_its_fields(contract: WireContract, model: str) -> None:
    schema = contract.document["components"]["schemas"][model]
    assert MODELS[model] - schema["properties"].keys() == set()


@pytest.mark.parametrize("name", VALUES)
def test_an_enumeration_of_the_contract_has_exactly_its_values(contract: WireContract, name: str) -> None:
    assert set(contract.document["components"]["schemas"][name]["enum"]) == VALUES[name]


def test_a_conversation_is_exported_in_every_format_of_the_contract(contract: WireContract) -> None:
    operation = _operation(contract, "GET /sessions/{session_id}/export")
    [parameter] = [parameter for parameter in operation["parameters"] if parameter["name"] == "format"]
    formats = contract.document["components"]["schemas"][_named(parameter["schema"])]
    assert set(formats["enum"]) == EXPORTS
