"""A tool: its declaration, and the check of a call's arguments.

    @tool(idempotent=True, risks=())
    def echo(text: Annotated[str, Field(description="What to say", max_length=200)]) -> str:
        \"\"\"Say it again.\"\"\"
        return text

Invariant: a tool runs only with arguments that its model accepted.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, overload

from pydantic import ValidationError

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.models import WaitKind
from shared.sessions.tools.context import Caller, ToolContext
from shared.sessions.tools.deferred import Completion, Deferred, Later
from shared.sessions.tools.output import MAX_CONTENT_CHARS, MAX_DATA_BYTES, ToolFile, ToolOutput, output_of
from shared.sessions.tools.running.secrets import checked_names
from shared.sessions.tools.running.threads import ONE_EACH
from shared.sessions.tools.schema import schema_of
from shared.sessions.tools.signature import Signature, ToolArguments, signature_of

__all__ = [
    "MAX_CONTENT_CHARS",
    "MAX_DATA_BYTES",
    "MAX_ERROR_CHARS",
    "READS",
    "Caller",
    "Completion",
    "InvalidToolArguments",
    "Later",
    "Tool",
    "ToolApproval",
    "ToolArguments",
    "ToolContext",
    "ToolFile",
    "ToolOutput",
    "ToolRisk",
    "fetched_address",
    "schema_of",
    "tool",
    "validate_arguments",
]

MAX_ERROR_CHARS = 2_000
"""Of a tool's error message, which may quote the other side."""
_MAX_ERRORS_SHOWN = 5
_MAX_FIELD_CHARS = 80
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


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


class InvalidToolArguments(InvalidInput):
    """The arguments do not fit the tool's schema; `errors` names the fields. `str()` is safe to show."""

    def __init__(self, code: ErrorCode, safe_message: str, **kwargs: Any) -> None:
        super().__init__(code, safe_message, **kwargs)

    def __str__(self) -> str:
        return self.safe_message


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
    run: Callable[[Any, ToolContext], Awaitable[ToolOutput | Deferred]] = field(repr=False)
    """Takes an instance of `arguments_model`. Raises ToolFailed (ToolRefused) with a message for the model."""
    function_schema: dict[str, Any] = field(repr=False)
    """The tool as offered to models: name, description and parameters."""
    function_schema_json: bytes = field(repr=False)
    """The same, encoded once, since every model request contains it."""
    secrets: tuple[str, ...] = ()
    """Names of the secrets that its calls may read."""
    validate: Callable[[Mapping[str, Any]], ToolArguments] | None = field(default=None, repr=False)
    """For a tool whose arguments have a JSON Schema and no model. Raises InvalidToolArguments."""


@overload
def tool[**P, R](function: Callable[P, R], /) -> Tool: ...
@overload
def tool[**P, R](
    *,
    approval: ToolApproval | None = None,
    idempotent: bool = False,
    risks: Iterable[ToolRisk] | None = None,
    outward_unless_quoted: str | None = None,
    timeout_s: float = 10,
    secrets: Iterable[str] = (),
) -> Callable[[Callable[P, R]], Tool]: ...
def tool(
    function: Callable[..., object] | None = None,
    /,
    *,
    approval: ToolApproval | None = None,
    idempotent: bool = False,
    risks: Iterable[ToolRisk] | None = None,
    outward_unless_quoted: str | None = None,
    timeout_s: float = 10,
    secrets: Iterable[str] = (),
) -> Tool | Callable[[Callable[..., object]], Tool]:
    """Declare a function as a tool. The model reads its name, its docstring and its parameters (`signature.py`).

    An async function runs in the process's event loop and must not block it. Any other function runs in a thread. It
    returns text, anything that is JSON, a `ToolOutput`, or `Later`.

    approval: if None, MANUAL for a tool that is ACTS_OUTWARD, else AUTO. idempotent: whether running a call twice has
    the same effect as running it once; if not, an interrupted call is not repeated. risks: if None, the worst is
    assumed: the tool reads untrusted and private data, and it is ACTS_OUTWARD if it needs approval or is not
    idempotent. secrets: names that `ToolContext.secret` may read.

    Raises TypeError for a function or a declaration that makes no tool.
    """

    def declare(given: Callable[..., object]) -> Tool:
        told = presumed(approval, idempotent=idempotent) if risks is None else frozenset(risks)
        name = str(getattr(given, "__name__", ""))
        description = checked_name("tool", name, inspect.getdoc(given))
        signature = signature_of(given, name)
        model = signature.model
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
            approval=approval or by_default(told),
            idempotent=idempotent,
            risks=told,
            outward_unless_quoted=outward_unless_quoted,
            timeout_s=timeout_s,
            arguments_model=model,
            run=_runs(given, name, signature),
            function_schema=schema,
            function_schema_json=json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode(),
            secrets=checked_names(secrets, name),
        )

    return declare if function is None else declare(function)


def _runs(
    function: Callable[..., Any], name: str, signature: Signature
) -> Callable[[Any, ToolContext], Awaitable[ToolOutput | Deferred]]:
    """The function with one way to call it. An error that it raises is an error of `await`."""
    if inspect.iscoroutinefunction(function):

        async def awaited(arguments: ToolArguments, context: ToolContext) -> ToolOutput | Deferred:
            return _given(await function(**signature.keywords(arguments, context)))

        return awaited
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"the tool {name!r} must return its result, not yield it")

    async def in_thread(arguments: ToolArguments, context: ToolContext) -> ToolOutput | Deferred:
        keywords = signature.keywords(arguments, context)
        threads = context.services.threads or ONE_EACH

        def work() -> ToolOutput | Deferred:
            context.link.waits_for_thread = False
            return _given(function(**keywords))  # bounded here, since it may be large

        context.link.waits_for_thread = True
        return await threads.run(name, context.user_id, work)

    return in_thread


def _given(value: object) -> ToolOutput | Deferred:
    return Deferred(WaitKind.RESULT, timeout_s=value.timeout_s) if isinstance(value, Later) else output_of(value)


def checked_name(kind: str, name: str, description: str | None) -> str:
    """The description. Raises TypeError where one of the two is none. kind: what it is called to who wrote it."""
    if _NAME.fullmatch(name) is None:
        raise TypeError(f"the {kind} {name!r} needs a name of at most 64 letters, digits and underscores")
    if not description:
        raise TypeError(f"the {kind} {name!r} needs a docstring: the model reads it")
    return description


def by_default(risks: frozenset[ToolRisk]) -> ToolApproval:
    """How a tool with these risks is approved that does not say so itself."""
    return ToolApproval.MANUAL if ToolRisk.ACTS_OUTWARD in risks else ToolApproval.AUTO


def presumed(approval: ToolApproval | None, *, idempotent: bool) -> frozenset[ToolRisk]:
    """The risks of a tool that declares none: the worst."""
    acts = approval is ToolApproval.MANUAL or not idempotent
    return READS | {ToolRisk.ACTS_OUTWARD} if acts else READS


def validate_arguments(tool: Tool, raw: Mapping[str, Any]) -> ToolArguments:
    """The arguments as the tool's own model. Raises InvalidToolArguments.

    Of a model, its message names fields and never their values.
    """
    if tool.validate is not None:
        return tool.validate(raw)
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
