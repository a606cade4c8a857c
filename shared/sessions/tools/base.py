"""The parts of a tool: its declaration, its arguments, the context of a call and its output.

    class EchoArguments(ToolArguments):
        text: str = Field(description="What to say", max_length=200)

    @tool(idempotent=True, risks=())
    async def echo(arguments: EchoArguments, call: ToolContext) -> ToolOutput:
        \"\"\"Say it again.\"\"\"
        return ToolOutput(arguments.text)

Invariant: a tool runs only with arguments that its model accepted. Its output is bounded and storable, whatever
untrusted input it has read.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.tools.services import NO_SERVICES, ToolServices
from shared.storable import storable_json, storable_text

MAX_CONTENT_CHARS = 32_000
"""About 8-10k tokens: one result must not fill the model's window."""
MAX_DATA_BYTES = 64 * 1024
MAX_ERROR_CHARS = 2_000
"""Of a tool's error message, which may quote the other side."""
_MAX_ERRORS_SHOWN = 5
_MAX_FIELD_CHARS = 80


class ToolApproval(StrEnum):
    """A tool's default approval rule, used unless agent or session set another."""

    AUTO = "auto"  # runs at once
    MANUAL = "manual"  # waits for a person


class ToolRisk(StrEnum):
    """A tool's risks: A, B and C of the "Agents Rule of Two" (`approvals/containment.py`)."""

    READS_UNTRUSTED = "reads_untrusted"  # A: its results are untrusted input
    READS_PRIVATE = "reads_private"  # B: its results are private data
    ACTS_OUTWARD = "acts_outward"  # C: it has external side effects, or sends data out of the conversation


READS = frozenset({ToolRisk.READS_UNTRUSTED, ToolRisk.READS_PRIVATE})


class ToolArguments(BaseModel):
    """Base of every argument model: frozen; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InvalidToolArguments(InvalidInput):
    """The arguments do not fit the tool's schema; `errors` names the fields. `str()` is safe to show."""

    def __init__(self, code: ErrorCode, safe_message: str, **kwargs: Any) -> None:
        super().__init__(code, safe_message, **kwargs)

    def __str__(self) -> str:
        return self.safe_message


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One call of a tool."""

    tool_call_id: str
    """Also the idempotency key for the tool's external side effects."""
    session_id: str
    turn_id: str
    user_id: str
    now: datetime
    """Aware UTC; tools read no clock themselves."""
    services: ToolServices = field(default=NO_SERVICES, repr=False)


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The result of a call. `content` is text for the model, `data` the same facts as JSON for programs.

    Made storable on construction: `content` is cut to MAX_CONTENT_CHARS, NUL and lone surrogates are replaced
    (PostgreSQL accepts neither), and `data` is dropped if it encodes to more than MAX_DATA_BYTES.
    """

    content: str
    data: JsonValue = None

    def __post_init__(self) -> None:
        content = storable_text(self.content)
        if len(content) > MAX_CONTENT_CHARS:
            left_out = len(content) - MAX_CONTENT_CHARS
            content = f"{content[:MAX_CONTENT_CHARS]}\n[cut: {left_out} more characters]"
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "data", _bounded(storable_json(self.data)))


type ToolFunction[A: ToolArguments] = Callable[[A, ToolContext], Awaitable[ToolOutput]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A registered tool. Immutable, made once at import."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments object."""
    approval: ToolApproval
    idempotent: bool
    """Whether running a call twice has the same effect as running it once."""
    risks: frozenset[ToolRisk]
    outward_unless_quoted: str | None
    """Name of an argument that is a URL. A call is ACTS_OUTWARD only if the model composed the URL itself, since it may
    then leak what the model has read, or if the turn has made too many choices among the URLs of others
    (`approvals/choices.py`). None: the tool's calls are ACTS_OUTWARD or not, whatever their arguments."""
    timeout_s: float
    arguments_model: type[ToolArguments]
    run: Callable[[Any, ToolContext], Awaitable[ToolOutput]] = field(repr=False)
    """Takes an instance of `arguments_model`. Raises ToolFailed (ToolRefused) with a message for the model."""
    function_schema: dict[str, Any] = field(repr=False)
    """The tool as offered to models: name, description and parameters."""
    function_schema_json: bytes = field(repr=False)
    """The same, encoded once, since every model request contains it."""


def tool[A: ToolArguments](
    *,
    approval: ToolApproval = ToolApproval.AUTO,
    idempotent: bool,
    risks: Iterable[ToolRisk] | None = None,
    outward_unless_quoted: str | None = None,
    timeout_s: float = 10,
) -> Callable[[ToolFunction[A]], Tool]:
    """Declare an async function as a tool. The model reads its name and docstring.

    risks: if None, the worst is assumed: the tool reads untrusted and private data, and it is ACTS_OUTWARD if it needs
    approval or is not idempotent.
    """
    told = _presumed(approval, idempotent=idempotent) if risks is None else frozenset(risks)

    def declare(function: ToolFunction[A]) -> Tool:
        name = str(getattr(function, "__name__", ""))
        description = inspect.getdoc(function)
        model = next(iter(get_type_hints(function).values()))
        if not name or not description:
            raise TypeError(f"the tool {name!r} needs a name and a docstring for the model")
        if not (isinstance(model, type) and issubclass(model, ToolArguments)):
            raise TypeError(f"the first argument of the tool {name!r} must be annotated with a ToolArguments model")
        if outward_unless_quoted is not None and outward_unless_quoted not in model.model_fields:
            raise TypeError(f"the tool {name!r} has no argument {outward_unless_quoted!r}")
        if outward_unless_quoted is not None and ToolRisk.ACTS_OUTWARD not in told:
            raise TypeError(f"the tool {name!r} sends {outward_unless_quoted!r} out: declare that it acts outward")
        parameters = schema_of(model)
        schema = {"name": name, "description": description, "parameters": parameters}
        return Tool(
            name=name,
            description=description,
            parameters=parameters,
            approval=approval,
            idempotent=idempotent,
            risks=told,
            outward_unless_quoted=outward_unless_quoted,
            timeout_s=timeout_s,
            arguments_model=model,
            run=function,
            function_schema=schema,
            function_schema_json=json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode(),
        )

    return declare


def _presumed(approval: ToolApproval, *, idempotent: bool) -> frozenset[ToolRisk]:
    acts = approval is ToolApproval.MANUAL or not idempotent
    return READS | {ToolRisk.ACTS_OUTWARD} if acts else READS


def validate_arguments(tool: Tool, raw: Mapping[str, Any]) -> ToolArguments:
    """The arguments as the tool's own model. Raises InvalidToolArguments, which names fields but never their values."""
    try:
        return tool.arguments_model.model_validate(dict(raw))
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False, include_context=False)
    errors = [
        {
            "field": ".".join(str(part)[:_MAX_FIELD_CHARS] for part in error["loc"]) or "arguments",
            "message": error["msg"].removeprefix("Value error, "),
        }
        for error in found
    ]
    shown = "; ".join(f"{error['field']}: {error['message']}" for error in errors[:_MAX_ERRORS_SHOWN])
    raise InvalidToolArguments(
        ErrorCode.INVALID_TOOL_ARGS, f"The arguments of {tool.name} are not valid. {shown}", errors=errors
    )


def fetched_address(tool: Tool, arguments: Mapping[str, Any]) -> str | None:
    """The URL that a call fetches, for tools whose calls are ACTS_OUTWARD by their URL alone."""
    found = None if tool.outward_unless_quoted is None else arguments.get(tool.outward_unless_quoted)
    return found if isinstance(found, str) else None


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema without titles and with its `$ref`s inlined.

    Many chat-completion servers do not support `$ref`. Raises TypeError for a recursive model.
    """
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    small = _inlined(schema, definitions, depth=0)
    assert isinstance(small, dict)
    small.pop("description", None)  # the class docstring is for developers; the function docstring is for the model
    small.setdefault("properties", {})
    return small


def _inlined(node: Any, definitions: dict[str, Any], *, depth: int, is_schema: bool = True) -> Any:
    if depth > 32:
        raise TypeError("a tool's arguments model must not be recursive")
    if isinstance(node, list):
        return [_inlined(item, definitions, depth=depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    if is_schema and "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _inlined({**target, **rest}, definitions, depth=depth + 1)
    return {
        key: value
        if key in ("default", "const", "enum", "examples")
        # Keys below `properties` are the tool's own field names, so a field called `title` stays.
        else _inlined(value, definitions, depth=depth + 1, is_schema=key != "properties")
        for key, value in node.items()
        if not (is_schema and key == "title")
    }


def _bounded(data: JsonValue) -> JsonValue:
    size_bytes = len(json.dumps(data, ensure_ascii=False, allow_nan=False).encode())
    return data if size_bytes <= MAX_DATA_BYTES else {"left_out": True, "size_bytes": size_bytes}
