"""What a binding extension of the dev host looks like.

The dev host itself only knows HTTP and timers. Durable Functions and SignalR plug in through
`Extension`, as binding extensions do in the real host: they claim binding types, resolve inputs,
send outputs, serve webhooks, and may start work of their own (a durable engine).

Invariant: an extension never touches user code. It calls functions through `Host.invoke`, so that
every invocation is converted, logged and failed by one piece of code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from devhost.extensions.timeline import Timeline

if TYPE_CHECKING:
    from starlette.routing import BaseRoute  # `./dev up` reads names here, and serves nothing itself


class HostError(Exception):
    """The app or its settings cannot be served; the message is one line that says what to change."""


class FunctionFailed(Exception):
    """User code raised. `str()` is the worker's text, "ExcType: message"; `stack` is its traceback."""

    def __init__(self, message: str, stack: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.stack = stack

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.stack)


class Direction(StrEnum):
    IN = "IN"
    OUT = "OUT"
    INOUT = "INOUT"


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding of a function, as the worker indexed it.

    `raw` holds every key of the binding JSON in camelCase, with `%NAME%` already replaced by app settings.
    """

    type: str
    name: str
    direction: Direction
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the app."""

    name: str
    function_id: str
    trigger: Binding
    inputs: tuple[Binding, ...]
    """Input bindings other than the trigger."""
    outputs: tuple[Binding, ...]
    """Output bindings, `$return` included when there is one."""
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class TriggerData:
    """What started an invocation, for binding expressions such as `{headers.x}` and `{query.user}`."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-cased names."""
    query: Mapping[str, str] = field(default_factory=dict)
    route: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostContext:
    """What an extension may know of its host."""

    app_dir: Path
    data_dir: Path
    """Exists; the extension keeps its state in files or folders of its own below it."""
    base_url: str
    """Public origin, e.g. `http://127.0.0.1:7071` (no trailing slash)."""
    host_json: Mapping[str, Any]
    """host.json with the `AzureFunctionsJobHost__` overrides applied."""
    settings: Mapping[str, str]
    """App settings: the environment over local.settings.json."""
    functions: Sequence[Function]


class Host(Protocol):
    """The part of the host an extension calls."""

    context: HostContext

    async def invoke(
        self, function: Function, payload: str, *, correlation_id: str | None = None, quiet: bool = False
    ) -> str | None:
        """Run a non-HTTP function: resolve its inputs, call it, send its outputs, log one line.

        payload: the text given to the trigger parameter (JSON for durable triggers).
        quiet: log only failures (orchestrator episodes would drown the log).
        Returns the text of the return value (JSON for durable triggers), or None.
        Raises FunctionFailed when user code raised or an output could not be sent.
        """
        ...


class Extension(Protocol):
    """A binding extension. Constructed before the app is indexed, bound to the host afterwards."""

    name: str
    """As under `extensions` in host.json and in `/runtime/webhooks/{name}`; e.g. `durableTask`, `signalR`."""
    trigger_types: frozenset[str]
    input_types: frozenset[str]
    output_types: frozenset[str]

    def bind(self, host: Host) -> None:
        """Check the app's functions and settings that concern this extension.

        Raises HostError naming the function or setting that is not supported or wrong.
        """
        ...

    def routes(self) -> Sequence[BaseRoute]:
        """ASGI routes, absolute paths; called once, after `bind`. They win over the app's functions."""
        ...

    async def start(self) -> None:
        """Begin work of its own; functions may be invoked from now on."""
        ...

    async def stop(self) -> None:
        """Stop taking new work, let go of what runs, flush and close. Idempotent."""
        ...

    async def resolve_input(self, binding: Binding, trigger: TriggerData) -> str | bytes:
        """The value of an input binding for one invocation."""
        ...

    async def send_output(self, binding: Binding, value: Any) -> None:
        """Send what the function set on an output binding.

        value: str, bytes, or the parsed JSON of a dict/list. Raises ValueError when it is malformed:
        the invocation then fails although user code has run, as in Azure.
        """
        ...


@runtime_checkable
class OffersSettings(Protocol):
    """Optional for an extension: settings it would set for the app, such as an endpoint it serves."""

    def default_settings(self, base_url: str) -> Mapping[str, str]:
        """Called before the app is indexed. A setting the app already has is left alone."""
        ...


type Cell = tuple[str, str | None]
"""Text, and the key of its details when there are some; a key that is a path, `/...`, leads there on this host."""


@dataclass(frozen=True, slots=True)
class Link:
    """Leads to a page of the same extension: to its details under a key, or to its list."""

    text: str
    detail: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Something to show to a person on the host's own pages."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    links: Sequence[Link] = ()
    """Other views of it, such as filters and further pages."""


type Shown = Table | Timeline


@runtime_checkable
class ShowsPages(Protocol):
    """Optional for an extension: what `/admin/pages` shows of it."""

    def overview(self) -> Sequence[Shown]:
        """Its part of the first page: short."""
        ...

    def page(self, detail: str | None, query: Mapping[str, str]) -> Sequence[Shown]:
        """A page of its own: its list, or the details under a key that a cell carried; empty when there is none.

        query: untrusted; what is malformed is taken as absent.
        """
        ...


HTTP_TRIGGER = "httpTrigger"


HTTP_OUTPUT = "http"


TIMER_TRIGGER = "timerTrigger"
