"""A small checkout: the real `devtools` and `devhost` around a two-function app that is not Parley's.

So these tests are about starting and stopping, and stay green whatever the app does.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devtools.running_up import StartUp, Up

ROOT = Path(__file__).parents[2]
_APP = """
import json, os
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
@app.route(route="v1/health/ready")
def ready(req: func.HttpRequest) -> func.HttpResponse:
    if "READY_FILE" not in os.environ:
        return func.HttpResponse("well", status_code=200)
    said = json.load(open(os.environ["READY_FILE"]))
    return func.HttpResponse(json.dumps(said), status_code=200 if said["status"] == "ok" else 503)
@app.route(route="settings")
def settings(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(dict(os.environ)))
"""
_MIGRATE = """
import os
import psycopg
with psycopg.connect(os.environ["POSTGRES_URL"]) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS visit (n int)")
print("schema is there")
"""


@pytest.fixture(scope="session")
def checkout() -> Iterator[Path]:
    # Not tmp_path: PostgreSQL's account could not enter it when we are root.
    root = Path(tempfile.mkdtemp(prefix="checkout-"))
    root.chmod(0o755)
    for package in ("devtools", "devhost"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "host.json").write_text('{"version": "2.0"}')
    (root / "function_app.py").write_text(_APP)
    migrate = root / "shared" / "adapters" / "sql" / "migrate.py"
    migrate.parent.mkdir(parents=True)
    migrate.write_text(_MIGRATE)
    for package in migrate.relative_to(root).parents[:-1]:
        (root / package / "__init__.py").touch()  # else the real `shared`, a regular package, would win
    yield root
    shutil.rmtree(root)


@pytest.fixture
def up(checkout: Path) -> Iterator[StartUp]:
    """Starts `up`s; each gets a data folder of its own unless told, all are stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="up-data-"))
    folder.chmod(0o755)
    started: list[Up] = []

    def start(*arguments: str, data: Path | None = None, env: dict[str, str] | None = None, port: int = 0) -> Up:
        place = data or folder / f"data{len(started)}"
        started.append(Up(checkout, *arguments, data=place, env=env or {}, port=port or None))
        return started[-1]

    yield start
    for one in started:
        one.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def own_servers(empty_postgres_url: str, redis_url: str, storage_url: str) -> dict[str, str]:
    """An environment that leaves nothing for `up` to start but the host."""
    return {
        "POSTGRES_URL": empty_postgres_url,
        "REDIS_URL": redis_url,
        "AzureWebJobsStorage": storage_url,
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_MODEL": "mine",
        "TOOLS_HTTP_ALLOW": "tools.example",
    }
