"""The OpenAPI document: valid, complete, and readable as a page."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx
import pytest
from jsonschema_rs import ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.errors import HTTP_STATUS, ErrorCode
from tests.contract.wire import EVENTS, WireContract
from tests.e2e.support.client import Api

ROUTES = (
    "POST /api/v1/sessions",
    "GET /api/v1/sessions",
    "GET /api/v1/sessions/{session_id}",
    "POST /api/v1/sessions/{session_id}/activate",
    "POST /api/v1/sessions/{session_id}/suspend",
    "POST /api/v1/sessions/{session_id}/resume",
    "POST /api/v1/sessions/{session_id}/end",
    "POST /api/v1/sessions/{session_id}/messages",
    "GET /api/v1/sessions/{session_id}/messages",
    "GET /api/v1/sessions/{session_id}/messages/{message_id}",
    "GET /api/v1/sessions/{session_id}/turns/{turn_id}",
    "POST /api/v1/sessions/{session_id}/turns/{turn_id}/cancel",
    "GET /api/v1/sessions/{session_id}/turns/{turn_id}/stream",
    "GET /api/v1/sessions/{session_id}/events",
    "GET /api/v1/search",
    "POST /api/v1/sessions/{session_id}/bookmarks",
    "GET /api/v1/sessions/{session_id}/bookmarks",
    "GET /api/v1/sessions/{session_id}/bookmarks/{bookmark_id}",
    "DELETE /api/v1/sessions/{session_id}/bookmarks/{bookmark_id}",
    "GET /api/v1/tags",
    "POST /api/v1/tags",
    "DELETE /api/v1/tags",
    "PUT /api/v1/sessions/{session_id}/tags/{name}",
    "DELETE /api/v1/sessions/{session_id}/tags/{name}",
    "GET /api/v1/templates",
    "POST /api/v1/templates",
    "GET /api/v1/templates/{template_id}",
    "DELETE /api/v1/templates/{template_id}",
    "GET /api/v1/sessions/{session_id}/statistics",
    "GET /api/v1/statistics",
    "GET /api/v1/sessions/{session_id}/export",
    "POST /api/v1/sessions/{session_id}/attachments",
    "GET /api/v1/sessions/{session_id}/attachments",
    "GET /api/v1/attachments/{attachment_id}",
    "GET /api/v1/attachments/{attachment_id}/content",
    "GET /api/v1/tools",
    "GET /api/v1/me",
    "GET /api/v1/approvals",
    "GET /api/v1/approvals/{approval_id}",
    "POST /api/v1/approvals/{approval_id}/decision",
    "GET /api/v1/sessions/{session_id}/approvals",
    "GET /api/v1/sessions/{session_id}/audit",
    "GET /api/v1/audit/findings",
    "GET /api/approve/{token}",
    "POST /api/approve/{token}",
    "POST /api/v1/realtime/negotiate",
    "POST /api/v1/sessions/{session_id}/subscribe",
    "POST /api/v1/sessions/{session_id}/unsubscribe",
    "GET /api/v1/health/live",
    "GET /api/v1/health/ready",
    "GET /api/v1/openapi.json",
    "GET /api/docs",
)
"""What clients outside this repository are written against; a route may be added, none may go."""


def test_document_is_valid_openapi_3_1(contract: WireContract) -> None:
    assert contract.document["openapi"].startswith("3.1")
    errors = list(OpenAPIV31SpecValidator(contract.document).iter_errors())
    assert errors == []


@pytest.mark.parametrize("route", ROUTES)
def test_route_of_the_contract_is_described(contract: WireContract, route: str) -> None:
    method, path = route.split(" ")
    operation = contract.document["paths"][path][method.lower()]
    assert operation["summary"]
    assert operation["responses"]


def test_every_operation_has_a_name_of_its_own_and_says_how_it_fails(contract: WireContract) -> None:
    operations = [operation for methods in contract.document["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        if operation.get("security") != []:
            assert "401" in operation["responses"], operation["operationId"]
        for status, response in operation["responses"].items():
            assert response["description"], f"{operation['operationId']} {status}"
            if status != "414":  # which is the platform's
                assert "x-correlation-id" in response["headers"], f"{operation['operationId']} {status}"


def test_problem_knows_exactly_the_24_codes(contract: WireContract) -> None:
    codes = contract.document["components"]["schemas"]["ErrorCode"]["enum"]
    assert sorted(codes) == sorted(HTTP_STATUS) == sorted(ErrorCode)
    assert len(codes) == 24


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("Message", ("author", "finish_reason", "reasoning", "output", "left_out")),
        ("Turn", ("finish_reason",)),
        ("Usage", ("input_tokens", "output_tokens", "cost_usd")),
        ("SessionConfig", ("reasoning_effort", "output_schema", "max_turn_cost_usd", "max_session_cost_usd")),
        ("NewMessage", ("output_schema",)),
        ("NewAgent", ("model_api", "model_context_tokens", "compact_at")),
        ("Agent", ("model_api", "model_context_tokens", "compact_at")),
        ("SessionStatistics", ("usage", "models")),
        ("PeriodStatistics", ("usage", "models", "days")),
        ("ModelUsage", ("model", "turns", "cost_usd")),
        ("DayUsage", ("day", "cost_usd")),
    ],
)
def test_what_an_answer_says_of_itself_and_what_it_cost_is_described(
    contract: WireContract, model: str, fields: tuple[str, ...]
) -> None:
    properties = contract.document["components"]["schemas"][model]["properties"]
    assert [field for field in fields if not properties[field].get("description")] == []


def test_a_schema_for_answers_is_any_json_object(contract: WireContract) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "x-own": [None]}
    contract.validate_body("NewMessage", {"content": "How many?", "output_schema": schema})
    contract.validate_body("SessionConfigInput", {"output_schema": schema})
    with pytest.raises(ValidationError):
        contract.validate_body("NewMessage", {"content": "How many?", "output_schema": [schema]})


def test_a_finish_reason_is_one_of_six(contract: WireContract) -> None:
    reasons = contract.document["components"]["schemas"]["FinishReason"]["enum"]
    assert reasons == ["stop", "tool_calls", "length", "content_filter", "refusal", "cancelled"]
    counted = contract.document["components"]["schemas"]["FinishReasonCounts"]["properties"]
    assert set(counted) == {"total", *reasons}


def test_there_are_19_event_types() -> None:
    assert len(EVENTS) == 19


class _Page(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"img", "link", "iframe", "object", "embed"} or any(name == "src" for name, _ in attrs):
            self.loads.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_docs_page_shows_every_route_and_loads_nothing(api: Api, contract: WireContract) -> None:
    response = await api.get("/api/docs")
    page = _Page()
    page.feed(response.text)
    assert page.loads == []
    for path, methods in contract.document["paths"].items():
        assert path in page.text
        for method in methods:
            assert method.upper() in page.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    told = (response.headers["x-content-type-options"], response.headers["referrer-policy"])
    assert told == ("nosniff", "no-referrer")


async def test_document_is_served_without_signing_in(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.base_url, trust_env=False) as client:
        for path in ("/api/v1/openapi.json", "/api/docs", "/api/v1/health/live", "/api/v1/health/ready"):
            assert (await client.get(path, headers={"x-dev-user": ";"})).status_code == 200, path
