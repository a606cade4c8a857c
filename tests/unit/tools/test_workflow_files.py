"""Workflows in the folder `agents/`: each file by itself, and what is wrong with one is one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from parley.testing import ToolFailed, run_workflow
from parley.workflows import ToolRisk, workflow
from shared.durable import names
from shared.sessions.tools import registry
from shared.sessions.tools.base import READS, ToolApproval
from shared.sessions.tools.kinds.workflows import declared_of
from shared.sessions.tools.modules.workflows import import_workflows

HEAD = """
import azure.durable_functions as df
import azure.functions as func
from parley.workflows import ToolArguments, workflow

bp = df.Blueprint()
"""
ONE = '''
class Text(ToolArguments):
    text: str


@bp.orchestration_trigger(context_name="context")
@workflow(arguments=Text, risks=())
def {name}(context):
    """Say it again."""
    return (yield context.call_activity("say_{name}", context.get_input()))


@bp.activity_trigger(input_name="given")
def say_{name}(given: dict[str, int]) -> str:
    return given["text"]
'''

type Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes workflow files, by name, and returns the folder `agents`."""

    def files(**sources: str) -> Path:
        folder = tmp_path / "agents"
        (folder / "workflows").mkdir(parents=True, exist_ok=True)
        for name, source in sources.items():
            (folder / "workflows" / f"{name}.py").write_text(HEAD + dedent(source))
        return folder

    return files


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    registry.take_from(None)
    for name in [name for name in sys.modules if name.startswith("parley_agents")]:
        del sys.modules[name]


def test_an_orchestration_is_a_tool_and_its_functions_are_the_apps(write: Write) -> None:
    registry.take_from(write(echo=ONE.format(name="echo")))

    found = registry.workflows()
    tool = registry.get_tool("echo")

    assert [one._function.get_function_name() for one in found.builders] == ["echo", "say_echo"]
    assert registry.path_of("echo") == "agents/workflows/echo.py"
    assert (tool.description, list(tool.parameters["properties"])) == ("Say it again.", ["text"])
    assert registry.problems() == ()


ROUTE = ONE.format(name="echo") + (
    '\n@bp.route(route="open")\ndef open_to_all(req: func.HttpRequest) -> str:\n    return ""\n'
)
ENTITY = ONE.format(name="echo") + (
    '\n@bp.entity_trigger(context_name="context")\ndef counter(context):\n    context.set_state(1)\n'
)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import nowhere_to_be_found", "workflows/bad.py:7: ModuleNotFoundError"),
        ('raise OSError("no disk")', "workflows/bad.py:7: OSError: no disk"),
        ("raise SystemExit(3)", "workflows/bad.py:7: SystemExit"),
        ("def half(:", "workflows/bad.py:7: SyntaxError"),
        ("x = 1", "defines no workflow"),
        (ROUTE, "'open_to_all' is neither an orchestration nor an activity"),
        (ENTITY, "'counter' is neither an orchestration nor an activity"),
        (ONE.format(name="turn"), "workflows/bad.py:14: 'turn' is the name of a function of Parley"),
        (ONE.format(name="calculate"), "has the name of another tool"),
        (ONE.format(name="taken"), "'taken' is the name of a function of Parley"),
        (ONE.format(name="ok") * 2, "'ok' is the name of two functions"),
        (
            '@workflow()\ndef loose(context):\n    """Do it."""\n',
            "workflows/bad.py:8: @workflow stands below @bp.orchestration_trigger",
        ),
        (
            '@bp.orchestration_trigger(context_name="ctx")\n@workflow()\ndef odd(ctx):\n    """Do it."""\n',
            "'odd' needs context_name='context'",
        ),
        (
            ONE.format(name="odd") + '\n@bp.activity_trigger(input_name="given")\ndef other(different): ...\n',
            "'other' must take the one parameter 'given'",
        ),
        (
            "@bp.orchestration_trigger(context_name='context')\n@workflow()\ndef mute(context): ...\n",
            "needs a docstring",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_and_the_others_are_there(write: Write, source: str, told: str) -> None:
    registry.take_from(write(bad=source, good=ONE.format(name="good")))

    found = registry.workflows(["Taken"])

    assert [one._function.get_function_name() for one in found.builders] == ["good", "say_good"]
    (line,) = map(str, registry.problems())
    assert told in line
    assert line.startswith("agents/workflows/bad.py")
    assert "\n" not in line


def test_one_whose_import_does_not_end_is_left_out(write: Write) -> None:
    folder = write(good=ONE.format(name="good"))
    registry.take_from(folder)
    assert len(registry.workflows().builders) == 2
    (folder / "workflows" / "bad.py").write_text("while True:\n    pass\n")

    found = import_workflows(folder, taken_tools=(), taken_functions=(), import_s=0.05)

    line = str(found.problems[0])  # on a busy machine the other one may not be there in time either
    assert line.startswith("agents/workflows/bad.py:")
    assert "still importing" in line


def test_two_files_with_one_name_are_told_of(write: Write) -> None:
    registry.take_from(write(a=ONE.format(name="echo"), b=ONE.format(name="echo")))

    assert len(registry.workflows().builders) == 2
    assert "is the name of a function of agents/workflows/a.py" in str(registry.problems()[0])


def test_tools_and_workflows_of_one_folder_share_modules_and_names(write: Write) -> None:
    folder = write(echo="from ..tools._both import BOTH\n" + ONE.format(name="echo"))
    (folder / "tools").mkdir()
    (folder / "tools" / "_both.py").write_text("BOTH = []\n")
    tool = 'from parley.tools import tool\nfrom ._both import BOTH\n@tool\ndef {name}() -> str:\n    """Do."""\n'
    (folder / "tools" / "own.py").write_text(tool.format(name="own"))
    (folder / "tools" / "same.py").write_text(tool.format(name="echo"))
    registry.take_from(folder)
    registry.workflows()

    assert registry.find_tool("own") is not None
    assert len([name for name in sys.modules if name.endswith("._both")]) == 1
    module = sys.modules["parley_agents.workflows.echo"]
    assert module.BOTH is sys.modules["parley_agents.tools._both"].BOTH
    assert "has the name of" in str(registry.problems()[0])


def test_names_of_parleys_own_durable_functions_are_reserved() -> None:
    known = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and not name.startswith(("_", "KEEPER_", "CANCEL_"))
    }
    assert known == set(registry.DURABLE_FUNCTIONS)


def test_what_declares_nothing_is_presumed_to_be_the_worst() -> None:
    @workflow()
    def careless(context: object) -> None:
        """Do it."""

    declared = declared_of(careless)
    assert declared is not None
    assert declared.tool.approval is ToolApproval.MANUAL
    assert declared.tool.risks == READS | {ToolRisk.ACTS_OUTWARD}
    for odd in (0.0, 31 * 86_400.0):
        with pytest.raises(TypeError, match="may take 1 to"):
            workflow(timeout_s=odd)(careless)


async def test_a_workflow_that_waits_for_what_a_test_does_not_send_is_told_of() -> None:
    import azure.durable_functions as df

    bp = df.Blueprint()

    @bp.orchestration_trigger(context_name="context")
    @workflow(risks=())
    def asks(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
        """Ask."""
        answer = context.wait_for_external_event("answer")
        late = context.create_timer(context.current_utc_datetime)
        winner = yield context.task_any([answer, late])
        if winner == late:
            raise ToolFailed("Nobody answered.")
        return (yield answer)

    assert (await run_workflow(asks, {}, events={"answer": "yes"})).content == "yes"
    with pytest.raises(ToolFailed, match="Nobody answered"):
        await run_workflow(asks, {})
