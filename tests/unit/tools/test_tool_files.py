"""Tools in the folder `agents/`: each file by itself, and what is wrong with one is one line."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from shared.sessions.tools import registry
from shared.sessions.tools.modules.importing import import_tools

TOOL = '''
from parley.tools import tool


@tool(idempotent=True)
def {name}(text: str) -> str:
    """Say it again."""
    return text
'''

type Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes tool files, by name, and returns the folder `agents`."""

    def files(**sources: str) -> Path:
        folder = tmp_path / "agents"
        (folder / "tools").mkdir(parents=True, exist_ok=True)
        for name, source in sources.items():
            (folder / "tools" / f"{name}.py").write_text(dedent(source))
        return folder

    return files


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    _forget()
    yield
    _forget()


def _forget() -> None:
    registry.take_from(None)
    for name in [name for name in sys.modules if name.startswith("parley_agents")]:
        del sys.modules[name]


def test_a_decorated_function_in_a_file_is_a_tool(write: Write) -> None:
    folder = write(greet=TOOL.format(name="greet"))

    found = import_tools(folder, {})

    assert (list(found.tools), dict(found.paths), found.problems) == (["greet"], {"greet": "agents/tools/greet.py"}, ())


def test_a_file_may_use_another_one_whose_name_begins_with_an_underscore(write: Write) -> None:
    folder = write(_words="HELLO = 'hello'\n", greet="from ._words import HELLO\n" + TOOL.format(name="greet"))

    found = import_tools(folder, {})

    assert (list(found.tools), found.problems) == (["greet"], ())


BROKEN = {
    "syntax": ("def broken(:\n", "1: SyntaxError: invalid syntax"),
    "indentation": ("x = 1\n  y = 2\n", "2: IndentationError: unexpected indent"),
    "raises": ("x = 1\nraise ValueError('no\\n  database')\n", "2: ValueError: no database"),
    "deep": ("def f():\n    return 1 / 0\nf()\n", "2: ZeroDivisionError: division by zero"),
    "exits": ("import sys\nsys.exit(3)\n", "2: SystemExit: 3: the module exits when it is imported"),
    "interrupts": ("raise KeyboardInterrupt\n", "1: KeyboardInterrupt"),
    "imports": (
        "import nowhere_to_be_found\n",
        "1: ModuleNotFoundError: No module named 'nowhere_to_be_found' (add it",
    ),
    "forgets": ("from ._nothing import x\n", "1: ModuleNotFoundError: No module named 'parley_agents.tools._nothing'"),
    "holds_none": ("x = 1\n", " defines no tool: decorate a function with @tool"),
    "mute": (
        TOOL.format(name="mute").replace('"""Say it again."""', ""),
        "5: TypeError: the tool 'mute' needs a docstr",
    ),
    "untyped": (
        TOOL.format(name="untyped").replace("text: str", "text"),
        "5: TypeError: the parameter 'text' of the too",
    ),
    "no_json": (
        TOOL.format(name="no_json").replace("text: str", "text: type(lambda: 0)"),
        "5: TypeError: the parameters of the tool 'no_json' cannot be JSON",
    ),
    "unknown": (TOOL.format(name="unknown").replace("text: str", "text: Nobody"), "6: NameError: name 'Nobody' is not"),
    "twice": (TOOL.format(name="twice") + TOOL.format(name="twice"), "14: the tool 'twice' is also defined in line 6"),
    "built_in": (TOOL.format(name="calculate"), "6: the tool 'calculate' has the name of a built-in tool"),
    "bytes_": ("x = '\\udc80'\n", ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_a_file_is_one_line_with_its_line_and_the_others_are_there(write: Write, name: str) -> None:
    source, told = BROKEN[name]
    folder = write(**{"a_good_one": TOOL.format(name="first"), name: source, "z_good_one": TOOL.format(name="last")})
    if name == "bytes_":
        (folder / "tools" / "bytes_.py").write_bytes(b"x = '\xff'\n")
        told = "1: SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xff"

    found = import_tools(folder, {"calculate": object()})

    assert list(found.tools) == ["first", "last"]
    (line,) = map(str, found.problems)
    assert line.startswith(f"agents/tools/{name}.py:{told}")
    assert line.isprintable()


def test_of_two_tools_of_one_name_the_first_file_keeps_it(write: Write) -> None:
    found = import_tools(write(b=TOOL.format(name="greet"), a=TOOL.format(name="greet")), {})

    assert dict(found.paths) == {"greet": "agents/tools/a.py"}
    assert [str(each) for each in found.problems] == [
        "agents/tools/b.py:6: the tool 'greet' is also defined in agents/tools/a.py"
    ]


def test_a_name_that_python_cannot_import_is_told(write: Write) -> None:
    folder = write(good=TOOL.format(name="good"))
    (folder / "tools" / "find-order.py").write_text(TOOL.format(name="find_order"))

    found = import_tools(folder, {})

    assert list(found.tools) == ["good"]
    assert [str(each) for each in found.problems] == [
        "agents/tools/find-order.py: the file's name must be a Python name, such as find_order.py"
    ]


@pytest.mark.parametrize(
    "waits", ["while True:\n    pass", "import threading\nthreading.Event().wait(60)", "import time\ntime.sleep(1.5)"]
)
def test_an_import_that_does_not_end_is_left_out_and_told(write: Write, waits: str) -> None:
    folder = write(a_slow=f"x = 1\n{waits}\n", b=TOOL.format(name="greet"))

    found = import_tools(folder, {}, import_s=0.05)

    assert list(found.tools) == ["greet"]
    (line,) = map(str, found.problems)
    assert line.startswith("agents/tools/a_slow.py:"), line
    assert line.endswith("is left out: still importing after 0 s")


def test_a_loop_at_import_takes_no_processor_after_it_was_left_out(write: Write) -> None:
    import_tools(write(a="while True:\n    pass\n"), {}, import_s=0.05)

    for thread in [thread for thread in threading.enumerate() if thread.name == "import a.py"]:
        thread.join(30)
        assert not thread.is_alive()


def test_all_files_together_have_a_time_too(write: Write) -> None:
    folder = write(a=TOOL.format(name="a"), b="import time\ntime.sleep(0.1)\n" + TOOL.format(name="b"), c="")

    found = import_tools(folder, {}, all_s=0.09)

    assert list(found.tools) == ["a"]
    assert [each.path for each in found.problems] == ["agents/tools/b.py", "agents/tools/c.py"]
    assert "the tools before it took" in str(found.problems[1])


# The registry. -----------------------------------------------------------------------------------


async def test_the_registry_has_them_beside_the_built_in_ones_in_order(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    registry.take_from(write(greet=TOOL.format(name="greet"), broken="import nowhere_to_be_found\n"))

    with caplog.at_level(logging.ERROR):
        await registry.ready()

    names = [tool.name for tool in registry.all_tools()]
    assert names == sorted(names)
    assert {"calculate", "greet"} <= set(names)
    assert (registry.path_of("greet"), registry.path_of("calculate")) == ("agents/tools/greet.py", None)
    assert caplog.messages == [str(each) for each in registry.problems()]
    assert len(caplog.messages) == 1


async def test_the_event_loop_goes_on_while_tools_are_imported(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    monkeypatch.setattr(sys, "gates", (begun, go), raising=False)
    gated = "import sys\nbegun, go = sys.gates\nbegun.set()\ngo.wait(30)\n"
    registry.take_from(write(greet=gated + TOOL.format(name="greet")))

    waiting = [asyncio.create_task(registry.ready()) for _ in range(20)]
    async with asyncio.timeout(30):
        await asyncio.to_thread(begun.wait)
    assert not any(task.done() for task in waiting)
    assert [thread.name for thread in threading.enumerate()].count("import tools") == 1, "one for all who wait"
    waiting.pop().cancel()
    go.set()
    await asyncio.gather(*waiting)

    assert registry.find_tool("greet") is not None


async def test_an_empty_folder_costs_no_thread_and_no_import(tmp_path: Path) -> None:
    (tmp_path / "agents" / "tools").mkdir(parents=True)
    registry.take_from(tmp_path / "agents")
    before = threading.active_count()

    await registry.ready()

    assert threading.active_count() == before
    assert not [name for name in sys.modules if name.startswith("parley_agents")]
    assert registry.find_tool("calculate") is not None
