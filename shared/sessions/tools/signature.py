"""What a function's parameters say of it as a tool: the model of its arguments, and how it is called with them.

A function takes one model (`arguments: LookupArguments`), or plain parameters of which a model is made
(`order_id: str, limit: int = 10`), and wherever it wants a `ToolContext`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model
from pydantic.errors import PydanticSchemaGenerationError

from shared.sessions.tools.context import ToolContext

_KINDS = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


class ToolArguments(BaseModel):
    """Base of every argument model: frozen; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Signature:
    """A function as it is called: `function(**keywords(arguments, context))`."""

    model: type[ToolArguments]
    keywords: Callable[[ToolArguments, ToolContext], dict[str, Any]]


def signature_of(function: Callable[..., object], name: str) -> Signature:
    """Raises TypeError for a function that cannot be a tool; the message names the parameter."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as exc:
        raise TypeError(f"the tool {name!r} has an annotation that is not known where it is defined: {exc}") from exc
    plain: dict[str, inspect.Parameter] = {}
    context_name: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in _KINDS:
            raise TypeError(f"the tool {name!r} must name its parameters: {parameter} cannot be one of them")
        if parameter.name not in hints:
            raise TypeError(f"the parameter {parameter.name!r} of the tool {name!r} needs a type")
        if hints[parameter.name] is ToolContext:
            if context_name is not None:
                raise TypeError(f"the tool {name!r} takes its ToolContext twice")
            context_name = parameter.name
        else:
            plain[parameter.name] = parameter
    if len(plain) == 1:
        (only,) = plain
        given = hints[only]
        if isinstance(given, type) and issubclass(given, ToolArguments):
            return Signature(given, _with_model(only, context_name))
    return Signature(_model_of(name, plain, hints), _with_fields(context_name))


def _model_of(name: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> type[ToolArguments]:
    fields: dict[str, Any] = {}
    for each in parameters.values():
        if each.name.startswith("_") or hasattr(ToolArguments, each.name):
            raise TypeError(f"the parameter {each.name!r} of the tool {name!r} needs another name")
        fields[each.name] = (hints[each.name], ... if each.default is inspect.Parameter.empty else each.default)
    try:
        return create_model(f"{name}_arguments", __base__=ToolArguments, **fields)
    except (PydanticSchemaGenerationError, PydanticUserError) as exc:
        said = str(exc).partition("\n")[0]
        raise TypeError(f"the parameters of the tool {name!r} cannot be JSON: {said}") from exc


def _with_model(model_name: str, context_name: str | None) -> Callable[[ToolArguments, ToolContext], dict[str, Any]]:
    def keywords(arguments: ToolArguments, context: ToolContext) -> dict[str, Any]:
        found: dict[str, Any] = {model_name: arguments}
        return found if context_name is None else found | {context_name: context}

    return keywords


def _with_fields(context_name: str | None) -> Callable[[ToolArguments, ToolContext], dict[str, Any]]:
    def keywords(arguments: ToolArguments, context: ToolContext) -> dict[str, Any]:
        found = {field: getattr(arguments, field) for field in type(arguments).model_fields}
        return found if context_name is None else found | {context_name: context}

    return keywords
