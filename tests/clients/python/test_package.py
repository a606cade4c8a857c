"""The packages as they are published: built without a network, installed into an environment of their own, and used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import httpx
import pytest
import uv

from devtools.clients import blocking, python, versions
from tests.e2e.support.processes import ROOT, AppHost

SOURCES = sorted((python.SOURCE / "src").rglob("*.py"))
README = (python.SOURCE / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    wheel, sdist = python.build(tmp_path_factory.mktemp("built"))
    return wheel, sdist


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel, and with what it names from the packages that are here."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run = [uv.find_uv_bin(), "--offline", "--no-config"]
    subprocess.run([*run, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    into = ["pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    subprocess.run([*run, *into, "--no-deps", str(built[0])], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    [ours] = (path for path in map(Path, sys.path) if path.name == "site-packages")
    # Behind its own: only what the wheel itself does not bring comes from here.
    (packages / "dependencies.pth").write_text(f"{ours}\n")
    return folder / "bin" / "python"


def example() -> str:
    """The first example of the README."""
    found = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def environment_of_a_user(api: str) -> dict[str, str]:
    host = httpx.URL(api).host
    return {"NO_PROXY": host, "no_proxy": host, "PATH": "/usr/bin:/bin"}


@pytest.mark.e2e
def test_the_readmes_example_runs_with_the_wheel(installed: Path, parley: AppHost, tmp_path: Path) -> None:
    code = example()
    assert len(code.strip().splitlines()) <= 10
    assert "http://localhost:7071" in code
    done = subprocess.run(
        [installed, "-P", "-c", code.replace("http://localhost:7071", parley.base_url)],
        cwd=tmp_path,
        env=environment_of_a_user(parley.base_url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("completed\n")
    assert len(done.stdout.split()) > 3


def test_the_wheel_is_what_runs_there(installed: Path, tmp_path: Path) -> None:
    code = "import parley_client; print(parley_client.__file__, parley_client.__version__)"
    done = subprocess.run([installed, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    place, version = done.stdout.split()
    assert Path(place).is_relative_to(installed.parents[1])
    assert version == versions.version()


def test_the_wheel_holds_the_package_its_types_and_its_licence_and_no_more(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        about = HeaderParser().parsestr(archive.read(_one(names, "METADATA")).decode())
    ours = {path.relative_to(python.SOURCE / "src").as_posix() for path in SOURCES}
    assert {name for name in names if ".dist-info/" not in name} == ours | {"parley_client/py.typed"}
    assert _one(names, "licenses/LICENSE")
    assert about["Name"] == "parley-client"
    assert about["Requires-Python"] == ">=3.10"
    assert about["Description-Content-Type"] == "text/markdown"
    assert about.get_payload() == README
    assert {re.split(r"[<>=]", needed)[0] for needed in about.get_all("Requires-Dist") or []} == {"httpx", "pydantic"}


def test_the_sdist_builds_the_same_wheel(built: tuple[Path, Path]) -> None:
    """The wheel was built from it, in a folder without the rest of the checkout."""
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/parley_client/py.typed"} <= names
    assert not any("test" in name for name in names)


def test_nothing_is_imported_that_is_not_named() -> None:
    found = {name for path in SOURCES for name in _imported(path)}
    assert found - sys.stdlib_module_names == {"httpx", "pydantic"}


def test_every_file_is_python_310() -> None:
    for path in SOURCES:
        ast.parse(path.read_text("utf-8"), feature_version=(3, 10))


def test_the_core_does_nothing_itself() -> None:
    core = [path for path in SOURCES if path.parent.name == "_core"]
    forbidden = {"httpx", "asyncio", "socket", "threading", "time", "ssl"}
    assert len(core) > 5
    assert [(path.name, name) for path in core for name in _imported(path) if name in forbidden] == []


def test_the_blocking_client_is_made_from_the_other() -> None:
    source = blocking.SOURCE.read_text("utf-8")
    made = blocking.blocking(source)
    assert made == blocking.TARGET.read_text("utf-8")
    assert re.findall(r"\basync\b|\bawait\b|\basyncio\b|Async", made.partition('"""\n')[2]) == []


def test_the_licence_is_the_projects() -> None:
    assert (python.SOURCE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def _one(names: set[str], end: str) -> str:
    [found] = (name for name in names if name.endswith(end))
    return found


def _imported(path: Path) -> set[str]:
    """The first part of the name of each module that a file imports, its own package apart."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found
