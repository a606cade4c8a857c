from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from devhost.correlation import current_invocation
from devhost.logs import apply_log_level, configure_logging
from devtools.setup.places import ROOT


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    names = (
        "devhost",
        "devhost.invoke.often",
        "devhost.invoke.relay",
        "devhost.invoke.sweep",
        "uvicorn",
        "azure.functions",
        "azure.core",
        "httpx",
        "asyncio",
    )
    before, handlers = {name: logging.getLogger(name).level for name in ("", *names)}, root.handlers[:]
    flags = logging.logProcesses, logging.logThreads, logging.logMultiprocessing
    yield
    root.handlers[:] = handlers
    logging.logProcesses, logging.logThreads, logging.logMultiprocessing = flags
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_colour_only_on_a_terminal() -> None:
    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        configure_logging(verbose=False, stream=stream)
        logging.getLogger("devhost.x").error("red")
        assert ("\x1b[31m" in stream.getvalue()) is coloured


def test_line_of_the_app_names_function_and_correlation() -> None:
    stream = io.StringIO()
    configure_logging(verbose=False, stream=stream)
    token = current_invocation.set(("turn", "0123456789abcdef"))
    logging.getLogger("app").info("step %d", 3)
    current_invocation.reset(token)

    assert stream.getvalue().endswith("INFO    [turn 01234567] step 3\n")


def test_verbose_shows_the_host_s_own_detail() -> None:
    for verbose in (False, True):
        stream = io.StringIO()
        configure_logging(verbose=verbose, stream=stream)
        logging.getLogger("devhost.x").debug("detail")
        logging.getLogger("httpx").info("HTTP Request")
        assert ("detail" in stream.getvalue()) is verbose
        assert "HTTP Request" not in stream.getvalue()


def test_host_json_sets_the_app_s_level() -> None:
    stream = io.StringIO()
    configure_logging(verbose=False, stream=stream)
    apply_log_level({"logging": {"logLevel": {"default": "Warning"}}})
    logging.getLogger("app").info("quiet")
    logging.getLogger("app").warning("loud")

    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_host_json_sets_what_is_said_of_one_function() -> None:
    stream = io.StringIO()
    configure_logging(verbose=True, stream=stream)
    apply_log_level({"logging": {"logLevel": {"default": "Information", "Function.often": "Warning"}}})
    for function in ("often", "seldom"):
        logging.getLogger(f"devhost.invoke.{function}").info("%s ok", function)
        logging.getLogger(f"devhost.invoke.{function}").error("%s failed", function)

    said = [line.split(" ", 2)[2].strip() for line in stream.getvalue().splitlines()]
    assert said == ["often failed", "seldom ok", "seldom failed"]


def test_what_runs_every_few_seconds_says_nothing_of_itself_unless_it_fails() -> None:
    stream = io.StringIO()
    configure_logging(verbose=False, stream=stream)
    apply_log_level(json.loads((Path(ROOT) / "host.json").read_text()))
    for function in ("relay", "sweep"):
        logging.getLogger(f"devhost.invoke.{function}").info("%s ok", function)
        logging.getLogger(f"devhost.invoke.{function}").error("%s failed", function)
    logging.getLogger("parley.sweep").info("handing over")

    said = [line.split(" ", 2)[2].strip() for line in stream.getvalue().splitlines()]
    assert said == ["relay failed", "sweep failed", "[parley.sweep] handing over"]
