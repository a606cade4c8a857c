"""The Python client against the OpenAPI document: its methods, its models, and the fields that it can send."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from functools import cache
from typing import Any, get_type_hints

import pytest
from parley_client import Client, events, models
from parley_client._core import operations
from parley_client._core.http import Operation, Request
from pydantic import BaseModel

import triggers
from triggers.http.openapi.document import document

type Json = dict[str, Any]

OURS = {"etag"}
"""What the client adds: a header's value."""
SAME = {
    "Session": models.Session,
    "ListedSession": models.ListedSession,
    "SessionConfig": models.SessionConfig,
    "Message": models.Message,
    "ToolCall": models.ToolCall,
    "AttachmentRef": models.AttachmentRef,
    "AttachmentDetail": models.Attachment,
    "Turn": models.Turn,
    "TurnError": models.TurnError,
    "Usage": models.Usage,
    "PostedTurn": models.PostedTurn,
    "Approval": models.Approval,
    "ApprovalContext": models.ApprovalContext,
    "EarlierCall": models.EarlierCall,
    "SourceRead": models.SourceRead,
    "Vote": models.Vote,
    "EventPage": events.EventPage,
}
WHOLE_IN_ANSWERS = {"SessionConfig"}
"""Schemas of requests, too, in which callers may leave fields out."""
ELSEWHERE = {
    **{"stream_events": "read_events", "wait_for_turn": "get_turn", "every": None, "close": None},
    **dict.fromkeys(("activate_session", "suspend_session", "resume_session", "end_session"), "change"),
}
"""Methods that are no operation of their own name."""


@cache
def served() -> Json:
    for module in pkgutil.walk_packages(triggers.__path__, "triggers."):
        importlib.import_module(module.name)
    return document()


def operation(name: str) -> tuple[str, str, Json]:
    """Method, path and declaration of an operation."""
    [found] = (
        (method.upper(), path, declared)
        for path, methods in served()["paths"].items()
        for method, declared in methods.items()
        if isinstance(declared, dict) and declared.get("operationId") == name
    )
    return found


@pytest.mark.parametrize("name", sorted(SAME))
def test_a_model_has_the_documents_fields(name: str) -> None:
    schema, model = served()["components"]["schemas"][name], SAME[name]
    fields = {field for field in model.model_fields if field not in OURS}
    assert fields == set(schema["properties"])
    if name in WHOLE_IN_ANSWERS:
        return
    required = {field for field, about in model.model_fields.items() if about.is_required()}
    # A field that we need and the service may leave out would make its answers unreadable.
    assert required <= set(schema.get("required", ())) | {"policy", "items"}


def public_methods() -> list[str]:
    return [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")]


def test_every_method_is_named_as_its_operation() -> None:
    ids = {
        declared["operationId"]
        for methods in served()["paths"].values()
        for declared in methods.values()
        if isinstance(declared, dict) and "operationId" in declared
    }
    unknown = [name for name in public_methods() if name not in ids and name not in ELSEWHERE]
    assert unknown == []


def requests() -> dict[str, Request]:
    """A request of each route that the client speaks, by operation, with every parameter that it can send."""
    found: dict[str, Request] = {}
    for name, make in inspect.getmembers(operations, inspect.isfunction):
        if name.startswith("_") or make.__module__ != operations.__name__:
            continue
        parameters = inspect.signature(make).parameters
        verbs = ("activate", "suspend", "resume", "end") if name == "change_session" else ("",)
        for verb in verbs:
            given = {key: verb if key == "verb" else _sample(key) for key in parameters}
            made = make(**given)
            name_of = f"{verb}_session" if verb else ELSEWHERE.get(name) or name
            found[name_of] = made.request if isinstance(made, Operation) else made
    return found


def _sample(parameter: str) -> Any:
    samples: Json = {
        **{key: {} for key in ("config", "metadata", "arguments", "output_schema")},
        **{key: ["x"] for key in ("tags", "attachment_ids")},
        **{"limit": 1, "after": 1, "for_session": True, "file": b"x"},
    }
    return samples.get(parameter, "x")


@pytest.mark.parametrize("name", sorted(requests()))
def test_a_request_is_one_of_the_document(name: str) -> None:
    method, path, declared = operation(name)
    request = requests()[name]
    assert request.method == method
    assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), f"/api/v1{request.path}")
    taken = {(item["in"], item["name"].lower()) for item in map(_resolved, declared.get("parameters", ()))}
    sent = {("query", key.lower()) for key in request.query}
    sent |= {("header", key) for key in request.headers if key != "content-type"}
    assert sent <= taken
    if request.body is not None:
        schema = declared["requestBody"]["content"]["application/json"]["schema"]
        assert set(_json(request.body)) <= set(_resolved(schema)["properties"])
    assert ("header", "idempotency-key") not in taken or "idempotency-key" in request.headers
    if request.upload is not None:
        assert "file" in _resolved(declared["requestBody"]["content"]["multipart/form-data"]["schema"])["properties"]


def test_every_setting_of_a_session_can_be_sent() -> None:
    assert set(get_type_hints(models.ConfigFields)) == set(models.SessionConfig.model_fields)


def test_every_event_is_read_as_the_document_shows_it() -> None:
    schema = served()["components"]["schemas"]
    envelope = schema.get("Envelope")
    if envelope is not None and "properties" in envelope:
        assert set(events.Event.model_fields) == set(envelope["properties"])
    assert all(issubclass(kind, BaseModel) for kind in events._FRAMES.values())  # type: ignore[arg-type]


def _resolved(schema: Json) -> Json:
    while "$ref" in schema:
        place: Any = served()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        schema = place
    return schema


def _json(body: bytes) -> Json:
    found = json.loads(body)
    assert isinstance(found, dict)
    return found
