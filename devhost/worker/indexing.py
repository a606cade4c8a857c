"""Let Microsoft's worker library index the app.

Invariant: a function that the library would refuse in Azure is refused here with its own words. An app on a Durable SDK
that this host cannot serve is refused in one line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from azure_functions_runtime import handle_event
from azure_functions_runtime.bindings import meta
from azure_functions_runtime.functions import FunctionLoadError
from azure_functions_runtime.http_v2 import HttpV2Registry

from devhost.extensions.contract import HostError


class _Protos(SimpleNamespace):
    """Stands for the protobuf classes of Azure's wire; `frames.py` is ours."""

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


type Indexed = tuple[str, str, list[str], tuple[int, float, float] | None]
"""A function's name, id, the JSON texts of its bindings, and of `@app.retry` the most retries with the shortest and the
longest delay in seconds."""


def index_app(app_dir: Path, *, has_own_packages: bool) -> tuple[list[Indexed], bool]:
    """Import the app and index it with the library's code.

    has_own_packages: this Python was made for the app; it is not the host's.
    Returns its functions and whether the app uses the streaming HTTP types. Raises HostError whose
    first line says what is wrong; further lines are the app's part of the traceback.
    """
    _check_script(app_dir)
    handle_event.protos = PROTOS
    meta.load_binding_registry()
    try:
        with _quiet_worker():
            handle_event.load_function_metadata(str(app_dir), caller_info="devhost")
    except (Exception, SystemExit) as exc:
        if _imported_durable_2():
            raise HostError(_durable_2_refused()) from exc
        raise _index_error(app_dir, exc, has_own_packages=has_own_packages) from exc
    found = handle_event._metadata_result
    if not found:
        raise HostError(f"{app_dir} defines no functions: no decorated function was found in {_script_name()}")
    indexed = [_described(item) for item in found]
    if any(json.loads(text).get(_SPEAKS_GRPC) for _, _, texts, _ in indexed for text in texts):
        raise HostError(_durable_2_refused())
    return indexed, bool(HttpV2Registry.http_v2_enabled())


_DURABLE = "azure-functions-durable"
_SPEAKS_GRPC = "durableRequiresGrpc"
"""Of the bindings that the SDK 2.0 (read in 2.0.0rc3) declares; the SDK 1.7 has no such key."""


def _imported_durable_2() -> bool:
    """Whether an app that cannot be loaded has imported the SDK 2: names of 1.x are missing there."""
    if "azure.durable_functions" not in sys.modules:
        return False
    return _durable_version().partition(".")[0] not in ("", "0", "1")


def _durable_version() -> str:
    try:
        return metadata.version(_DURABLE)
    except metadata.PackageNotFoundError:
        return ""


def _durable_2_refused() -> str:
    return (
        f"the app uses {_DURABLE} {_durable_version() or '2'}, which speaks gRPC; this host serves 1.x only: pin "
        f"{_DURABLE}<2 in the app's requirements.txt and install it"
    )


def _described(item: Any) -> Indexed:
    """One function in plain values."""
    retry = None
    if item.retry_options is not None:
        options = item.retry_options
        fixed = getattr(options, "delay_interval", None)
        shortest = fixed if fixed is not None else options.minimum_interval
        longest = fixed if fixed is not None else options.maximum_interval
        retry = (int(options.max_retry_count), float(shortest.total_seconds()), float(longest.total_seconds()))
    return str(item.name), str(item.function_id), [str(text) for text in item.raw_bindings], retry


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


def _index_error(app_dir: Path, exc: BaseException, *, has_own_packages: bool) -> HostError:
    # The worker re-raises import errors with much added advice; the original error is its context.
    cause = exc.__context__ if isinstance(exc, ImportError) and exc.__context__ is not None else exc
    what = traceback.format_exception_only(cause)[-1].strip()
    if isinstance(cause, FunctionLoadError):
        what = str(cause)
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if _is_user_file(frame.filename, app_dir)]
    hint = ""
    if isinstance(cause, ModuleNotFoundError):
        hint = f" ({_missing_package(app_dir, has_own_packages=has_own_packages)})"
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(cause, SyntaxError) and cause.filename:
        place = f" at {Path(cause.filename).name}:{cause.lineno}"
    lines = [f"the app cannot be loaded{place}: {what}{hint}"]
    lines += "".join(traceback.format_list(frames)).rstrip().splitlines()
    return HostError("\n".join(lines))


def _missing_package(app_dir: Path, *, has_own_packages: bool) -> str:
    """What to do about a module that is not there."""
    if has_own_packages:
        return "if it is a package, add it to requirements.txt: the next ./dev host installs it"
    if (app_dir / "requirements.txt").exists():
        return "this Python is the host's own; for any other app, ./dev host DIR installs its requirements.txt"
    return "if it is a package, name it in a requirements.txt beside host.json: ./dev host DIR installs that"


def _is_user_file(filename: str, app_dir: Path) -> bool:
    path = Path(filename)
    return path.is_relative_to(app_dir) and not {"site-packages", ".venv"} & set(path.parts)
