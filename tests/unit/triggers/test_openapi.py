"""The document as generators of clients meet it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

import triggers
from triggers.http.openapi.document import document
from triggers.http.openapi.schemas import nullable

type Json = dict[str, Any]

for _module in pkgutil.walk_packages(triggers.__path__, "triggers."):
    importlib.import_module(_module.name)

DOCUMENT = document()
SCHEMAS: dict[str, Json] = DOCUMENT["components"]["schemas"]
_URN = "urn:document"


def _operations() -> Iterator[tuple[str, Json]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _contents(operation: Json) -> Iterator[tuple[str, str, Json]]:
    """(request or status, media type, media type object)."""
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", kind, media
    for status, response in operation["responses"].items():
        for kind, media in response.get("content", {}).items():
            yield status, kind, media


def _within(value: Any) -> Iterator[Json]:
    if isinstance(value, list):
        for item in value:
            yield from _within(item)
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _within(item)


def _reached(schema: Json, seen: set[str]) -> set[str]:
    """The names of the components that a schema refers to, at any depth."""
    for part in _within(schema):
        name = str(part.get("$ref", "")).rpartition("/")[2]
        if name and name not in seen:
            seen.add(name)
            _reached(SCHEMAS[name], seen)
    return seen


REQUESTS = {
    name
    for _, operation in _operations()
    for media in operation.get("requestBody", {}).get("content", {}).values()
    for name in _reached(media["schema"], set())
}


def test_a_client_that_sets_one_field_sends_one_field() -> None:
    with_defaults = [name for name, schema in SCHEMAS.items() if any("default" in part for part in _within(schema))]
    assert with_defaults == []
    assert "required" not in SCHEMAS["SessionPatch"]
    assert "required" not in SCHEMAS["SessionConfigInput"]
    assert "default 8" in SCHEMAS["SessionConfigInput"]["properties"]["max_steps"]["description"]


def test_what_a_request_may_leave_out_may_be_null_in_it() -> None:
    for name in ("NewSession", "SessionPatch", "SessionConfigInput", "NewMessage", "NewAgent", "NewDecision"):
        schema = SCHEMAS[name]
        for field, value in schema["properties"].items():
            if field not in schema.get("required", ()):
                assert nullable(value) == value, f"{name}.{field}"


def test_what_an_answer_always_has_is_required() -> None:
    assert set(SCHEMAS["Session"]["properties"]) == set(SCHEMAS["Session"]["required"])
    assert set(SCHEMAS["SessionConfig"]["properties"]) == set(SCHEMAS["SessionConfig"]["required"])
    assert set(SCHEMAS["PostedTurn"]["required"]) == {"message", "turn"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "maxLength": 3}, {"type": ["string", "null"], "maxLength": 3}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"$ref": "#/x"}, {"oneOf": [{"$ref": "#/x"}, {"type": "null"}]}),
        ({"$ref": "#/x", "description": "d"}, {"oneOf": [{"$ref": "#/x"}, {"type": "null"}], "description": "d"}),
        ({"const": True, "type": "boolean"}, {"oneOf": [{"const": True, "type": "boolean"}, {"type": "null"}]}),
        ({"oneOf": [{"$ref": "#/x"}, {"type": "null"}]}, {"oneOf": [{"$ref": "#/x"}, {"type": "null"}]}),
        ({}, {}),
    ],
)
def test_null_is_said_in_the_way_that_generators_know(schema: Json, expected: Json) -> None:
    assert nullable(schema) == expected


def test_no_schema_is_a_union_with_null_or_with_anything() -> None:
    for name, schema in SCHEMAS.items():
        for part in _within(schema):
            choices = part.get("anyOf", [])
            assert len(choices) != 2 or {"type": "null"} not in choices, name
            assert {} not in choices, name


def test_an_object_says_what_it_holds_or_that_it_holds_anything() -> None:
    bare = [
        f"{where}: {part}"
        for where, whole in [*SCHEMAS.items(), *_operations()]
        for part in _within({key: value for key, value in whole.items() if key not in {"example", "examples"}})
        if part.get("type") == "object" and not part.get("properties") and "additionalProperties" not in part
    ]
    assert bare == []


def test_enumerations_and_pages_have_names() -> None:
    for name, schema in SCHEMAS.items():
        assert [part for part in _within(schema.get("properties", {})) if "enum" in part] == [], name
    for where, operation in _operations():
        assert [p["name"] for p in operation["parameters"] if "enum" in p["schema"]] == [], where
        for status, kind, media in _contents(operation):
            if kind == "application/json" and status != "request":
                assert "properties" not in media["schema"], f"{where} {status}"


def test_whole_numbers_say_how_large_they_get() -> None:
    for name, schema in SCHEMAS.items():
        for part in _within(schema):
            if part.get("type") in ("integer", ["integer", "null"]):
                assert part["format"] == ("int32" if part.get("maximum", 2**63) < 2**31 else "int64"), name
    assert SCHEMAS["SessionConfigInput"]["properties"]["max_session_tokens"]["format"] == "int64"


def test_a_success_is_never_a_problem() -> None:
    for where, operation in _operations():
        for status, response in operation["responses"].items():
            if status < "300":
                assert "application/problem+json" not in response.get("content", {}), f"{where} {status}"


def test_files_are_bytes_and_streams_say_what_one_event_holds() -> None:
    for path in ("/api/v1/sessions/{session_id}/export", "/api/v1/attachments/{attachment_id}/content"):
        content = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]
        assert next(iter(content)) == "application/octet-stream"
        assert [media for media in content.values() if media["schema"] != {"type": "string", "format": "binary"}] == []
    for path, name, key in (
        ("/api/v1/sessions/{session_id}/events", "SessionStreamEvent", "type"),
        ("/api/v1/sessions/{session_id}/turns/{turn_id}/stream", "TurnStreamEvent", "event"),
    ):
        content = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]
        assert content["text/event-stream"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
        union = SCHEMAS[name]
        assert union["discriminator"]["propertyName"] == key
        assert len(union["discriminator"]["mapping"]) == len(union["oneOf"])


def test_callers_sign_in_with_a_token() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert schemes["development"]["name"] == "x-dev-user"
    assert DOCUMENT["security"] == [{"bearer": []}, {"development": []}]


def test_operations_are_named_by_a_verb_with_its_noun() -> None:
    names = [operation["operationId"] for _, operation in _operations()]
    assert [name for name in names if "_" not in name] == []


def test_every_route_says_more_than_its_name_and_has_a_declared_tag() -> None:
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for where, operation in _operations():
        assert operation["description"], where
        assert set(operation["tags"]) <= tags, where


def _absolute(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: f"{_URN}{value}" if name == "$ref" else _absolute(value) for name, value in schema.items()}
    return [_absolute(item) for item in schema] if isinstance(schema, list) else schema


def test_every_route_has_examples_and_they_are_right() -> None:
    resource = Resource.from_contents(DOCUMENT, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(_URN, resource)
    for where, operation in _operations():
        for status, kind, media in _contents(operation):
            is_form = status == "request" and kind != "application/json"
            if media["schema"].get("format") == "binary" or is_form:
                continue
            validator = Draft202012Validator(_absolute(media["schema"]), registry=registry)
            problems = [error.message for error in validator.iter_errors(media["example"])]
            assert problems == [], f"{where} {status} {kind}"
