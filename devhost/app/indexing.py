"""Let Microsoft's worker library index an app, and convert the result into `Function`s.

Invariant: a function that the worker would refuse in Azure is refused here with the worker's own words. A
binding that no extension of this host serves is refused by name before anything starts.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from azure_functions_runtime import handle_event
from azure_functions_runtime.bindings import meta
from azure_functions_runtime.functions import FunctionLoadError
from azure_functions_runtime.http_v2 import HttpV2Registry

from devhost.extensions.contract import Binding, Direction, Function, HostError
from devhost.settings.config import is_disabled, replace_names


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`@app.retry` of a function, in seconds."""

    max_retries: int
    first_delay_s: float
    longest_delay_s: float
    """Equal to `first_delay_s` for a fixed delay."""

    def delay_s(self, attempt: int) -> float:
        """Wait before retry number `attempt` (from 1): doubling, capped."""
        return float(min(self.first_delay_s * 2 ** (attempt - 1), self.longest_delay_s))


@dataclass(frozen=True, slots=True)
class IndexedApp:
    """What indexing found."""

    functions: tuple[Function, ...]
    retries: Mapping[str, RetryPolicy]
    """By function id."""
    streaming_http: bool
    """The app's HTTP functions take starlette requests (`azurefunctions.extensions.http.fastapi`)."""


class _Protos(SimpleNamespace):
    """Replaces the worker's protobuf classes, since nothing goes over a wire within one process."""

    class BindingInfo(SimpleNamespace):
        # The worker compares these with azure.functions' BindingDirection and DataType, which are ints.
        undefined = 0
        out = 1
        inout = 2

    RpcFunctionMetadata = SimpleNamespace
    RpcRetryOptions = SimpleNamespace
    RpcException = SimpleNamespace
    StatusResult = SimpleNamespace


PROTOS = _Protos()


def index_app(app_dir: Path) -> tuple[list[Any], bool]:
    """Import the app and index it with the worker's code.

    Returns the worker's metadata and whether the app uses the streaming HTTP types. Raises HostError whose
    first line says what is wrong; further lines are the app's part of the traceback.
    """
    _check_script(app_dir)
    handle_event.protos = PROTOS
    meta.load_binding_registry()
    try:
        with _quiet_worker():
            handle_event.load_function_metadata(str(app_dir), caller_info="devhost")
    except (Exception, SystemExit) as exc:
        raise _index_error(app_dir, exc) from exc
    found = handle_event._metadata_result
    if not found:
        raise HostError(f"{app_dir} defines no functions: no decorated function was found in {_script_name()}")
    return list(found), bool(HttpV2Registry.http_v2_enabled())


FUNCTION_NAME = re.compile(r"(?!host$)[a-z][a-z0-9_-]{0,127}", re.IGNORECASE)
"""Names that Azure's host takes. Source: azure-functions-ux issue 504; on host 4.1037 a function with another name is
disabled."""


def describe_functions(
    metadata: Sequence[Any], settings: Mapping[str, str], only: Sequence[str] | None
) -> tuple[tuple[Function, ...], dict[str, RetryPolicy]]:
    """Functions and retry policies of the worker's metadata, with `%NAME%` replaced.

    only: names listed under `functions` of host.json; None = all.
    Raises HostError for a missing setting, a function without a trigger, or a name that Azure does not take.
    """
    functions, retries = [], {}
    for item in metadata:
        name = str(item.name)
        if not FUNCTION_NAME.fullmatch(name):
            raise HostError(
                f"function '{name}': Azure disables a function with such a name; it takes a letter, then up to 127 "
                "letters, digits, - and _, and not 'host'"
            )
        if only is not None and name.lower() not in {wanted.lower() for wanted in only}:
            continue
        bindings = [_binding(json.loads(text), settings, f"function '{name}'") for text in item.raw_bindings]
        triggers = [binding for binding in bindings if binding.type.lower().endswith("trigger")]
        if len(triggers) != 1:
            raise HostError(f"function '{name}' has {len(triggers)} triggers; it needs exactly one")
        others = [binding for binding in bindings if binding is not triggers[0]]
        functions.append(
            Function(
                name=name,
                function_id=str(item.function_id),
                trigger=triggers[0],
                inputs=tuple(binding for binding in others if binding.direction is Direction.IN),
                outputs=tuple(binding for binding in others if binding.direction is not Direction.IN),
                disabled=is_disabled(name, settings),
            )
        )
        if item.retry_options is not None:
            retries[str(item.function_id)] = _retry(item.retry_options)
    return tuple(functions), retries


@contextmanager
def import_scope(app_dir: Path) -> Iterator[None]:
    """Put `app_dir` first on sys.path, and afterwards drop the modules imported from it.

    A process serves one app, but tests serve several one after another, and both Python and the worker keep
    loaded state in globals (modules, function registry, whether a streaming extension was imported).
    """
    before = frozenset(sys.modules)
    _forget({Path(_script_name()).stem})
    sys.path.insert(0, str(app_dir))
    try:
        yield
    finally:
        if str(app_dir) in sys.path:
            sys.path.remove(str(app_dir))
        _forget({name for name in sys.modules if name not in before and _is_module_of(name, app_dir)})


def _is_module_of(name: str, app_dir: Path) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    return bool(file) and _is_user_file(str(file), app_dir) and name.partition(".")[0] != "devhost"


def _forget(names: set[str]) -> None:
    # Importing a streaming extension marks the whole process, so it is dropped for the next app.
    for name in names | {name for name in sys.modules if name.startswith("azurefunctions.extensions.http")}:
        sys.modules.pop(name, None)
    base = sys.modules.get("azurefunctions.extensions.base.web")
    if base is not None:
        base.ModuleTrackerMeta._module = None
    HttpV2Registry._http_v2_enabled = False
    HttpV2Registry._http_v2_enabled_checked = False
    meta._DEFERRED_BINDING_REGISTRY_LOADED = False
    handle_event._functions._functions.clear()
    handle_event._metadata_result = None
    importlib.invalidate_caches()


def _script_name() -> str:
    return os.environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")


def _check_script(app_dir: Path) -> None:
    if (app_dir / _script_name()).is_file():
        return
    if any(app_dir.glob("*/function.json")):
        raise HostError(
            f"{app_dir} is written for programming model v1 (function.json), which devhost does not support: "
            "move it to function_app.py with decorators"
        )
    raise HostError(f"{app_dir} holds no {_script_name()} (set PYTHON_SCRIPT_FILE_NAME if it has another name)")


@contextmanager
def _quiet_worker() -> Iterator[None]:
    """Silence the worker's log: this host reports an indexing error once, the worker would log it several times."""
    worker_log = logging.getLogger("azure.functions")
    before = worker_log.level
    worker_log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        worker_log.setLevel(before)


def _index_error(app_dir: Path, exc: BaseException) -> HostError:
    # The worker re-raises import errors with much added advice; the original error is its context.
    cause = exc.__context__ if isinstance(exc, ImportError) and exc.__context__ is not None else exc
    what = traceback.format_exception_only(cause)[-1].strip()
    if isinstance(cause, FunctionLoadError):
        what = str(cause)
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if _is_user_file(frame.filename, app_dir)]
    hint = ""
    if isinstance(cause, ModuleNotFoundError):
        hint = " (install it: is it in the app's requirements.txt?)"
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(cause, SyntaxError) and cause.filename:
        place = f" at {Path(cause.filename).name}:{cause.lineno}"
    lines = [f"the app cannot be loaded{place}: {what}{hint}"]
    lines += "".join(traceback.format_list(frames)).rstrip().splitlines()
    return HostError("\n".join(lines))


def _is_user_file(filename: str, app_dir: Path) -> bool:
    path = Path(filename)
    return path.is_relative_to(app_dir) and not {"site-packages", ".venv"} & set(path.parts)


def _binding(raw: dict[str, Any], settings: Mapping[str, str], where: str) -> Binding:
    resolved = replace_names(raw, settings, f"{where}, binding '{raw.get('name')}'")
    direction = Direction(str(resolved.get("direction", "IN")).upper())
    return Binding(str(resolved["type"]), str(resolved["name"]), direction, resolved)


def _retry(options: Any) -> RetryPolicy:
    fixed = getattr(options, "delay_interval", None)
    if fixed is not None:
        return RetryPolicy(options.max_retry_count, fixed.total_seconds(), fixed.total_seconds())
    shortest, longest = options.minimum_interval.total_seconds(), options.maximum_interval.total_seconds()
    return RetryPolicy(options.max_retry_count, shortest, longest)
