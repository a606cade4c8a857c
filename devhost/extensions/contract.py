"""The interface between the dev host and its binding extensions.

The dev host itself only knows HTTP and timers. Durable Functions, SignalR and queues plug in through
`Extension`, as binding extensions do in the real host: they claim binding types, resolve inputs,
send outputs, serve webhooks, and may do work of their own (a durable engine).

Invariant: an extension never calls user code itself. It calls functions through `Host.invoke`, so that
one piece of code converts, logs and fails every invocation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from devhost.extensions.timeline import Timeline
from devhost.harsh import Harsh

if TYPE_CHECKING:
    from starlette.routing import BaseRoute  # not imported at runtime, since `./dev up` only reads names from here


type Metadata = Mapping[str, tuple[str, Any]]
"""What a trigger tells of itself beside its value, by name: type of the worker library's datum, and plain value."""


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


class CallerGone(FunctionFailed):
    """The caller left before it had the whole answer, as browsers do all the time: nobody's fault."""


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
    """The trigger's data of an invocation, for binding expressions such as `{headers.x}` and `{query.user}`."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-cased names."""
    query: Mapping[str, str] = field(default_factory=dict)
    route: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    """The request's JSON object, when it has one and a `Content-Length`."""


@dataclass(frozen=True, slots=True)
class HostContext:
    """What a host tells its extensions."""

    app_dir: Path
    data_dir: Path
    """The data folder, which exists. An extension keeps its state in its own files or folders below it."""
    base_url: str
    """Public origin, e.g. `http://127.0.0.1:7071` (no trailing slash)."""
    host_json: Mapping[str, Any]
    """host.json with the `AzureFunctionsJobHost__` overrides applied."""
    settings: Mapping[str, str]
    """App settings: the environment over local.settings.json."""
    functions: Sequence[Function]
    harsh: Harsh | None = None
    """What goes wrong on purpose; None: nothing."""
    local_url: str = ""
    """The origin for calls of the app's own processes, which are answered until all work has ended, when `base_url`
    accepts nothing more; empty: `base_url`."""


class Host(Protocol):
    """The part of the host that extensions call."""

    context: HostContext

    async def invoke(
        self,
        function: Function,
        payload: str | bytes,
        *,
        correlation_id: str | None = None,
        quiet: bool = False,
        metadata: Metadata | None = None,
    ) -> str | None:
        """Run a non-HTTP function: resolve its inputs, call it, send its outputs, log one line.

        payload: what is given to the trigger parameter (JSON for durable triggers).
        quiet: log only failures (orchestrator episodes would drown the log).
        metadata: what the trigger tells of itself beside its value.
        Returns the text of the return value (JSON for durable triggers), or None.
        Raises FunctionFailed when user code raised or an output could not be sent.
        """
        ...

    async def invoke_for_value(self, function: Function, payload: str, trigger: TriggerData) -> Any:
        """As `invoke`; returns what the function returned, JSON as its value. trigger: for binding expressions."""
        ...


class Extension(Protocol):
    """A binding extension. Constructed before the app is indexed, bound to the host afterwards."""

    name: str
    """Its key under `extensions` in host.json and in `/runtime/webhooks/{name}`, e.g. `durableTask`, `signalR`."""
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
        """Start the extension's own work; functions may be invoked from now on."""
        ...

    async def stop(self) -> None:
        """Stop accepting work, abandon running work, flush and close. Idempotent."""
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
    """Optional for an extension: defaults for app settings, such as the address of an endpoint that it serves."""

    def default_settings(self, base_url: str) -> Mapping[str, str]:
        """Called before the app is indexed. A setting that the app already has is not changed."""
        ...


type Cell = tuple[str, str | None]
"""Text, and the key of its details if there are any. A key that is a path, `/...`, links to that path on this host."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a page of the same extension: to the details under a key, or to its list."""

    text: str
    detail: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table for the host's own pages."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    links: Sequence[Link] = ()
    """Links to other views of the table, such as filters and further pages."""


type Shown = Table | Timeline


@runtime_checkable
class ShowsPages(Protocol):
    """Optional for an extension: its content on `/admin/pages`."""

    def overview(self) -> Sequence[Shown]:
        """Its short part of the first page."""
        ...

    def page(self, detail: str | None, query: Mapping[str, str]) -> Sequence[Shown]:
        """The extension's own page: its list, or the details under a cell's key; empty when the page does not exist.

        query: untrusted input; malformed values count as absent.
        """
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """A way in which this host differs from Azure's on purpose.

    cases: recordings that show it; none when Azure's side is known from its documentation or source.
    """

    what: str
    azure: str
    ours: str
    why: str
    cases: tuple[str, ...] = ()


HTTP_TRIGGER = "httpTrigger"


HTTP_OUTPUT = "http"


TIMER_TRIGGER = "timerTrigger"
