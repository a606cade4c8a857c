"""Structured output: the check of a `strict` schema, and an instance of a schema made by rules.

Invariant: an instance satisfies its schema for the keywords named in `instance_of`. Texts that would need a language
model are filled with the user's words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from devhost.model.errors import Json, RequestRefused, missing, object_at, text_at

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FREE_DEPTH = 5
"""Below this depth only required properties are made, so that recursive schemas end."""
_MAX_DEPTH = 40
_SAMPLES = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "PT1M",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def read_json_schema(raw: Mapping[str, Json], where: str, *, param: str) -> Mapping[str, Json]:
    """The schema of a `json_schema` format with the fields name, schema and strict.

    where: path of the object with these fields. param: the parameter that OpenAI names for a wrong schema.
    """
    name = text_at(raw.get("name"), f"{where}.name")
    if not _NAME.fullmatch(name):
        raise RequestRefused(
            f"Invalid '{where}.name': expected 1-64 of letters, digits, '_', '-'.", param=f"{where}.name"
        )
    if raw.get("schema") is None:
        raise missing(f"{where}.schema")
    schema = object_at(raw["schema"], f"{where}.schema")
    if raw.get("strict") is True:
        check_strict(schema, f"response_format '{name}'", param=param, code=None)
    return schema


def check_strict(schema: Mapping[str, Json], what: str, *, param: str, code: str | None) -> None:
    """Refuse a schema that strict mode does not support. what: as in "response_format 'answer'".

    Source: OpenAI's guide to structured outputs: all properties required, no additional properties, an object at the
    root, `anyOf` but neither `oneOf` nor `allOf`.
    """
    fault = next(_faults(schema, ()), None)
    kind = schema.get("type")
    if kind != "object":
        fault = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'"
    if fault is not None:
        raise RequestRefused(f"Invalid schema for {what}: {fault}.", param=param, code=code)


def _faults(schema: Json, path: tuple[str, ...]) -> Iterator[str]:
    context = f"In context={path}"
    if not isinstance(schema, Mapping):
        yield f"{context}, schema must be an object"
        return
    for word in ("oneOf", "allOf", "not"):
        if word in schema:
            yield f"{context}, '{word}' is not permitted"
    if path and schema.keys().isdisjoint(("type", "anyOf", "$ref", "enum", "const")):
        yield f"{context}, schema must have a 'type' key"
    properties = schema.get("properties")
    if isinstance(properties, Mapping) or "object" in _types(schema):
        if schema.get("additionalProperties") is not False:
            yield f"{context}, 'additionalProperties' is required to be supplied and to be false"
        names = list(properties) if isinstance(properties, Mapping) else []
        required = schema.get("required")
        lacking = [name for name in names if not isinstance(required, list) or name not in required]
        if lacking:
            yield (
                f"{context}, 'required' is required to be supplied and to be an array including every key in"
                f" properties. Missing '{lacking[0]}'"
            )
    yield from _faults_below(schema, path)


def _faults_below(schema: Mapping[str, Json], path: tuple[str, ...]) -> Iterator[str]:
    for word in ("properties", "$defs", "definitions"):
        children = schema.get(word)
        if isinstance(children, Mapping):
            for name, child in children.items():
                yield from _faults(child, (*path, word, name))
    if "items" in schema:
        yield from _faults(schema["items"], (*path, "items"))
    options = schema.get("anyOf")
    if isinstance(options, list):
        for i, child in enumerate(options):
            yield from _faults(child, (*path, "anyOf", str(i)))


def instance_of(schema: Mapping[str, Json], words: str) -> Json:
    """A value that satisfies a schema: types, required, enum, const, items, minItems, maxItems, minLength,
    maxLength, minimum, maximum, multipleOf, format, nested objects, `$ref` and the first of `anyOf`.

    words: source of all texts. Raises RequestRefused when the schema refers to itself without end.
    """
    return _Maker(schema, words).value(schema, 0)


class _Maker:
    def __init__(self, root: Mapping[str, Json], words: str) -> None:
        self._root = root
        self._words = " ".join(words.split())[:80] or "demo"

    def value(self, schema: Json, depth: int) -> Json:
        if depth > _MAX_DEPTH:
            raise RequestRefused("The offline model cannot satisfy a schema that refers to itself without end.")
        if not isinstance(schema, Mapping):
            return self._words
        if isinstance(schema.get("$ref"), str):
            return self.value(self._resolved(str(schema["$ref"])), depth + 1)
        if "const" in schema:
            return schema["const"]
        options = schema.get("enum")
        if isinstance(options, list) and options:
            first: Json = options[0]
            return first
        for word in ("anyOf", "oneOf"):
            choices = schema.get(word)
            if isinstance(choices, list) and choices:
                return self.value(_chosen(choices, depth), depth + 1)
        return self._typed(schema, depth)

    def _resolved(self, reference: str) -> Json:
        found: Json = self._root
        for step in reference.lstrip("#").strip("/").split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            if step and isinstance(found, Mapping):
                found = found.get(step)
        if found is None:
            raise RequestRefused(f"Invalid schema: '{reference}' refers to nothing.")
        return found

    def _typed(self, schema: Mapping[str, Json], depth: int) -> Json:
        kinds = _types(schema)
        kind = next((kind for kind in kinds if kind != "null"), "null" if kinds else "")
        if kind == "object" or (not kind and "properties" in schema):
            return self._object(schema, depth)
        if kind == "array" or (not kind and "items" in schema):
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        if kind == "boolean":
            return True
        return None if kind == "null" else self._text(schema)

    def _object(self, schema: Mapping[str, Json], depth: int) -> dict[str, Json]:
        properties = schema.get("properties")
        required = schema.get("required")
        insisted = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        known = properties if isinstance(properties, Mapping) else {}
        names = list(known) if depth < _FREE_DEPTH else [name for name in known if name in insisted]
        names += [name for name in insisted if name not in known]
        return {name: self.value(known.get(name, {}), depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Json], depth: int) -> list[Json]:
        least, most = _limit(schema, "minItems"), _limit(schema, "maxItems")
        count = int(least) if least is not None else (1 if depth < _FREE_DEPTH else 0)
        count = min(count, int(most)) if most is not None else count
        return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]

    def _text(self, schema: Mapping[str, Json]) -> str:
        form = schema.get("format")
        if isinstance(form, str) and form in _SAMPLES:
            return _SAMPLES[form]
        least, most = _limit(schema, "minLength"), _limit(schema, "maxLength")
        text = self._words
        if least is not None and len(text) < least:
            text = (text + " ") * (int(least) // (len(text) + 1) + 1)
        return text[: int(most)] if most is not None else text


def _types(schema: Mapping[str, Json]) -> list[str]:
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    return [kind for kind in kinds if isinstance(kind, str)]


def _chosen(choices: list[Json], depth: int) -> Json:
    if depth < _FREE_DEPTH:
        return choices[0]
    return next((choice for choice in choices if isinstance(choice, Mapping) and "null" in _types(choice)), choices[0])


def _limit(schema: Mapping[str, Json], name: str) -> float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(schema: Mapping[str, Json], *, whole: bool) -> float | int:
    low, above = _limit(schema, "minimum"), _limit(schema, "exclusiveMinimum")
    high, below = _limit(schema, "maximum"), _limit(schema, "exclusiveMaximum")
    step = _limit(schema, "multipleOf") or (1 if whole else None)
    value: float = 1
    if low is not None or above is not None:
        value = max(bound for bound in (low, above) if bound is not None)
    elif high is not None or below is not None:
        value = min(1.0, *(bound for bound in (high, below) if bound is not None))
    if step:
        value = (math.ceil if low is not None or above is not None else math.floor)(value / step) * step
        value += step if above is not None and value <= above else 0
        value -= step if below is not None and value >= below else 0
    elif above is not None and value <= above:
        value = above + 1 if below is None else (above + below) / 2
    elif below is not None and value >= below:
        value = below - 1
    return int(value) if whole else value
