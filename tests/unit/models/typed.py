"""Request bodies held against the openai package's own types, strictly: no key that they do not know."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import openai.types
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import is_typeddict


@cache
def _adapters() -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    for module in pkgutil.walk_packages(openai.types.__path__, "openai.types."):
        for value in vars(importlib.import_module(module.name)).values():
            if is_typeddict(value):
                value.__pydantic_config__ = ConfigDict(extra="forbid")
    from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

    return TypeAdapter(CompletionCreateParamsStreaming), TypeAdapter(ResponseCreateParamsStreaming)


def check_chat(body: Mapping[str, Any]) -> None:
    """Raises ValidationError."""
    _walked(_adapters()[0].validate_python(body))


def check_responses(body: Mapping[str, Any]) -> None:
    """Raises ValidationError."""
    _walked(_adapters()[1].validate_python(body))


def _walked(value: Any) -> None:
    """Iterables of the types are checked as they are read."""
    if isinstance(value, Mapping):
        for item in value.values():
            _walked(item)
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for item in value:
            _walked(item)
