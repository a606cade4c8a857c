"""What is deployed, by itself: the host runs a turn from the package, with nothing but `requirements.txt` installed.

Azure puts its worker beside the app's packages; here the host's own needs (`requirements-dev.txt`, "The local host")
lie in a folder that is searched after them, together with a copy of the host. Nothing else of this checkout can be
imported.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from devhost.durable.settings import read_settings
from devhost.settings.host_json import load_host_json
from devtools import console
from devtools.agents.new import new
from devtools.package import BACKENDS, FOLDER, PackageError, build, hashed_requirements, is_ignored, main, read_rules
from devtools.setup import agents_lock
from devtools.setup.install import uv_environment
from tests.e2e.support.processes import LINK_SECRET, START_LIMIT_S, AppHost, app_environment, scripted_model, wait_for
from tests.e2e.support.stack import own_stores
from tests.support.deployed import DEV, PROD, app_settings

ROOT = Path(__file__).parents[2]
_SAID = "a platypus numbered 7431"
OURS = {"activities", "function_app", "orchestrators", "parley", "shared", "triggers"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "app"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def python(package: Path) -> Path:
    """An interpreter with what the package asks for, installed as Azure's build does it, and then the host's needs."""
    environment = package.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    interpreter = environment / "bin" / "python"
    _install(package, "--python", str(interpreter), "--require-hashes", "--requirement", "requirements.txt")
    return interpreter


@pytest.fixture(scope="module")
def host_python(package: Path, python: Path) -> Path:
    text = (ROOT / "requirements-dev.txt").read_text("utf-8")
    section = text.partition("# The local host\n")[2].partition("\n\n")[0]
    wanted = [line.split()[0] for line in section.splitlines()]
    assert any(name.startswith("azure-functions-runtime==") for name in wanted)
    beside = package.parent / "host"
    constraints = package.parent / "constraints.txt"
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
    constraints.write_text("\n".join(re.findall(r"(?m)^[A-Za-z0-9._-]+==[\w.]+", lock)))
    _install(package, "--python", str(python), "--target", str(beside), "--constraint", str(constraints), *wanted)
    shutil.copytree(ROOT / "devhost", beside / "devhost", ignore=shutil.ignore_patterns("__pycache__"))
    packages = next((package.parent / "environment").glob("lib/python*/site-packages"))
    (packages / "host.pth").write_text(f"{beside}\n")
    return python


def _install(package: Path, *arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run(
        [str(uv), "pip", "install", "--quiet", *arguments],
        cwd=package,
        env=uv_environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_package_holds_the_app_and_nothing_of_its_making(package: Path) -> None:
    top = {entry.name for entry in package.iterdir()}

    # The console, where it has been built.
    assert {entry.name for entry in package.glob("web/*")} <= {"dist"}
    # Nobody's agents are part of Parley; where there are some, they are deployed.
    assert top - {"web", "agents"} == {
        "activities",
        "function_app.py",
        "host.json",
        "LICENSE",
        "orchestrators",
    } | {
        "packaged.json",
        "parley",
        "requirements.txt",
        "shared",
        "triggers",
    }
    # Agents are Markdown.
    assert {path.parent for path in package.rglob("*.md")} <= {package / "agents"}
    assert not [path for path in package.rglob("*") if path.suffix == ".pyc" or path.name.startswith(".")]


def test_what_is_deployed_is_named_with_the_hashes_of_the_lock(package: Path) -> None:
    """Whatever Azure's build runs, pip or uv, one hash makes it check all, and nothing without one is installed."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (package / "requirements.txt").read_text("utf-8"))[1:]
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
    pins = re.findall(r"(?m)^([^\s#]+==\S+)", (ROOT / "constraints.txt").read_text("utf-8"))

    assert [block.split()[0] for block in blocks] == pins
    assert [block for block in blocks if "--hash=sha256:" not in block or block not in lock] == []


def test_azd_deploys_what_is_built_here_and_not_the_checkout() -> None:
    """The checkout's requirements have no hashes, and a console that was not built anew may be stale."""
    service = (ROOT / "azure.yaml").read_text("utf-8").partition("\nservices:\n")[2].partition("\nhooks:\n")[0]

    assert "\n    project: .\n" in service
    assert "\n    dist: .data/package\n" in service
    assert re.search(r"(?s)\n    hooks:\n.*\n      prepackage:\n.*run: python3 \./dev package\n", service)
    assert FOLDER == ROOT / ".data" / "package"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_package_names_the_backend_that_the_settings_of_the_app_name(tmp_path: Path, backend: str) -> None:
    """The host takes the settings, and what scales it reads host.json alone: the two must say the same."""
    build(tmp_path / "app", backend=backend)
    first, prefix = backend == "scheduler", "AzureFunctionsJobHost__extensions__durableTask__"
    deployed = app_settings(PROD if first else DEV)
    settings = {name: value for name, value in deployed.items() if name.startswith(prefix)}
    assert {name.rpartition("__")[2] for name in settings} == {"hubName", *BACKENDS["storage"]}
    package, host = load_host_json(tmp_path / "app", {}), load_host_json(ROOT, settings)

    told, wanted = (each["extensions"]["durableTask"]["storageProvider"] for each in (package, host))
    assert told == {name: wanted[name] for name in told}
    assert set(wanted) - set(told) <= {name for name in wanted if name.endswith(("Interval", "Timeout"))}
    for each in (package, host):
        del each["extensions"]["durableTask"]["storageProvider"]
    assert package == host
    assert read_settings(load_host_json(tmp_path / "app", {}), {}).splits_long_timers is not first


def test_the_checkout_names_no_backend() -> None:
    """The local host runs its own, and a test can choose."""
    assert "storageProvider" not in json.loads((ROOT / "host.json").read_text("utf-8"))["extensions"]["durableTask"]


@pytest.mark.parametrize(("given", "code"), [("storage", 0), ("", 0), ("redis", 1)])
def test_the_command_takes_the_backend_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, code: int
) -> None:
    async def built() -> None:
        """The console's own tests build it."""

    monkeypatch.setattr(console, "build", built)
    monkeypatch.setenv("PARLEY_DURABLE_BACKEND", given)

    assert main([str(tmp_path / "app")]) == code
    if code:
        assert "PARLEY_DURABLE_BACKEND is 'redis': it must be one of scheduler, storage" in capsys.readouterr().err
        assert not (tmp_path / "app").exists()
        return
    told = json.loads((tmp_path / "app/host.json").read_text("utf-8"))["extensions"]["durableTask"]["storageProvider"]
    assert told == BACKENDS[given or "scheduler"]


def test_a_package_without_a_hash_is_not_built(tmp_path: Path) -> None:
    for name in ("requirements.txt", "constraints.txt", ".funcignore", "host.json"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
    (tmp_path / "requirements-dev.lock").write_text(lock.replace("aiohttp==", "aiohttp-else=="))

    with pytest.raises(PackageError, match="no hash of aiohttp=="):
        build(tmp_path / "package", tmp_path)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the requirements of a package are made from."""
    for name in ("constraints.txt", "requirements-dev.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "agents").mkdir()
    return tmp_path


def _lock_of_agents(checkout: Path, wanted: str, *blocks: str) -> None:
    (checkout / "agents/requirements.txt").write_text(f"# Mine\n{wanted}  # for refunds\n")
    header = agents_lock._header([wanted], checkout / "requirements-dev.lock")
    (checkout / "agents/requirements.lock").write_text("\n".join([header, *blocks, ""]))


def test_the_packages_of_tools_are_deployed_with_their_hashes_and_ours_at_our_versions(checkout: Path) -> None:
    ours = hashed_requirements(checkout)
    stripe = f"stripe==13.0.0 \\\n    --hash=sha256:{'a' * 64}"
    aiohttp = f"aiohttp==3.14.5 \\\n    --hash=sha256:{'b' * 64}"
    # Development has it, and the app has not.
    httpx_ = f"httpx==0.28.1 \\\n    --hash=sha256:{'c' * 64}"
    _lock_of_agents(checkout, "stripe==13.0.0", aiohttp, httpx_, stripe)

    assert hashed_requirements(checkout) == f"{ours}{httpx_}\n{stripe}\n"


def test_a_lock_of_tools_that_was_made_for_something_else_is_not_deployed(checkout: Path) -> None:
    (checkout / "agents/requirements.txt").write_text("stripe==13.0.0\n")
    with pytest.raises(PackageError, match=r"agents/requirements.lock does not belong .*: run ./dev lock"):
        hashed_requirements(checkout)

    _lock_of_agents(checkout, "stripe==13.0.0")
    hashed_requirements(checkout)
    (checkout / "agents/requirements.txt").write_text("stripe==14.0.0\n")
    with pytest.raises(PackageError, match=r"run ./dev lock"):
        hashed_requirements(checkout)

    _lock_of_agents(checkout, "stripe==13.0.0")
    lock = checkout / "requirements-dev.lock"
    lock.write_text(lock.read_text("utf-8").replace("aiohttp==3.14.5", "aiohttp==3.14.6"))
    agents = checkout / "agents"
    with pytest.raises(agents_lock.StaleLock):
        agents_lock.beside(lock, agents / "requirements.txt", agents / "requirements.lock", lock)


def test_everything_the_package_imports_is_in_its_requirements(package: Path, python: Path) -> None:
    """Imports inside functions too: they run in the middle of somebody's turn."""
    wanted: set[str] = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                wanted.add(node.module)
    foreign = sorted(name for name in wanted if name.partition(".")[0] not in OURS | sys.stdlib_module_names)
    assert {"psycopg_pool", "azure.identity.aio"} <= set(foreign)

    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [str(python), "-I", "-c", script, *foreign], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr


def test_a_turn_runs_from_the_package_and_what_is_in_agents_is_there(
    package: Path, host_python: Path, tmp_path: Path
) -> None:
    clerk = package / "agents" / "clerk.md"
    clerk.parent.mkdir(exist_ok=True)
    clerk.write_text("---\ntools: [shout]\n---\nFile things.\n")
    new("tool", "shout", package / "agents")
    with scripted_model(tmp_path) as model_url, own_stores() as stores:
        environment = app_environment(
            postgres_url=stores.postgres_url,
            redis_url=stores.redis_url,
            storage_url=stores.storage_url,
            model_url=model_url,
            sink_port=1,
        )
        host = AppHost(tmp_path, environment, app=package, python=str(host_python))
        try:
            host.start(PYTHONPATH="")
            with httpx.Client(base_url=f"{host.base_url}/api/v1", trust_env=False, timeout=60) as client:
                wait_for(lambda: client.get("/health/ready").status_code == 200, "the app to be ready", START_LIMIT_S)
                agent = client.get("/agents/clerk").json()
                packaged = json.loads((package / "packaged.json").read_text("utf-8"))["packaged_at"]
                assert (agent["source"]["path"], agent["missing_tools"]) == ("agents/clerk.md", [])
                assert datetime.fromisoformat(agent["source"]["packaged_at"]) == datetime.fromisoformat(packaged)
                session = client.post("/sessions", json={"agent_id": "clerk"}).json()
                posted = client.post(
                    f"/sessions/{session['id']}/messages", json={"content": _SAID}, headers={"prefer": "wait=30"}
                )
            assert posted.json()["turn"]["status"] == "completed", posted.text + host.log()
            # What people say and what signs are in no log, at the level the deployed host logs at.
            for never in (_SAID, LINK_SECRET, "eyJ", "postgresql://", "redis://:"):
                assert never not in host.log()
        finally:
            host.stop()


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("tests", True),
        ("shared/tests", False),
        ("shared/README.md", True),
        ("shared/__pycache__", True),
        (".venv", True),
        ("shared/.hidden", True),
        ("local.settings.json", True),
        ("agents/support.md", False),
        ("agents/tools", False),
        ("agents/README.md", True),
        ("agents/requirements.txt", True),
        ("agents/requirements.lock", True),
        ("agents/tests", True),
        ("agents/dev.sql", True),
        ("agents/dev.env", True),
        ("clients", True),
        ("examples", True),
        ("shared/adapters/postgres/turns/turns.sql", False),
    ],
)
def test_nothing_but_the_app_goes_into_the_package(path: str, ignored: bool) -> None:
    assert is_ignored(path, read_rules(ROOT / ".funcignore")) is ignored


@pytest.mark.parametrize("rule", ["!kept", "a/b", "folder/", "**/x", "/a/*.md", "[ab]", "/"])
def test_a_rule_that_could_be_read_in_two_ways_is_refused(tmp_path: Path, rule: str) -> None:
    (tmp_path / ".funcignore").write_text(f"*.md\n{rule}\n")

    with pytest.raises(PackageError, match="not a plain name"):
        read_rules(tmp_path / ".funcignore")


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(PackageError, match="other files than a package"):
        build(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(PackageError, match="file/package cannot be written"):
        build(tmp_path / "file" / "package")
