"""The servers of one `./dev up`, and the environment that the app gets from them.

Invariant: a user's own setting (environment or local.settings.json) is never replaced, and a server that it
points to is never started by us.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from devhost.asgi.cors import CORS_LOCAL_SETTING
from devhost.asgi.hosts import HOSTS_SETTING, is_loopback_name, name_of
from devhost.servers import Azurite, Postgres, Report, Server, ServerError, Valkey
from devhost.servers.folder import write_private
from devtools.local.programs import Notes, OfflineModel
from devtools.setup.places import ROOT as _ROOT

ROOT = Path(_ROOT)
_PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
TRIGGER_QUEUE = "trigger-messages"
"""As in Azure (infra/modules/data/storage.bicep)."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_MODEL_SETTINGS = {"AZURE_OPENAI_ENDPOINT": "AZURE_OPENAI_DEPLOYMENT", "OPENAI_BASE_URL": "OPENAI_MODEL"}
"""Where a model is, by the setting that says which one it is. The first that is set counts."""


def user_settings() -> dict[str, str]:
    """The user's settings: local.settings.json, overridden by the environment; empty values count as not set.

    Raises ServerError when local.settings.json cannot be read.
    """
    path = ROOT / "local.settings.json"
    values: dict[str, str] = {}
    try:
        read = json.loads(path.read_text(encoding="utf-8-sig")).get("Values", {})
        values = {str(name): str(value) for name, value in read.items()}
    except FileNotFoundError:
        pass
    except (ValueError, AttributeError) as error:
        raise ServerError(f"{path} is not valid: compare it with local.settings.sample.json ({error})") from error
    return {name: value for name, value in (values | dict(os.environ)).items() if value}


def lacking_model(settings: Mapping[str, str]) -> str | None:
    """The setting that is missing for the model that the settings lead to; None: all are there, or none is wanted."""
    wanted = next((name for place, name in _MODEL_SETTINGS.items() if place in settings), None)
    return None if wanted is None or wanted in settings else wanted


class Stack:
    """The servers for settings that the user did not set; each provides its setting once it runs."""

    def __init__(self, data: Path, settings: Mapping[str, str], *, port: int, report: Report) -> None:
        self._settings = settings
        self._data = data
        self.postgres = None if "POSTGRES_URL" in settings else Postgres(data / "postgres", report=report)
        self._provided: dict[str, Server] = {}
        if self.postgres is not None:
            self._provided["POSTGRES_URL"] = self.postgres
        if "REDIS_URL" not in settings:
            self._provided["REDIS_URL"] = Valkey(data / "valkey", report=report)
        if "AzureWebJobsStorage" not in settings:
            self._provided["AzureWebJobsStorage"] = Azurite(data / "azurite", report=report)
        if not any(name in settings for name in _MODEL_SETTINGS):
            self._provided["OPENAI_BASE_URL"] = OfflineModel(data / "model", report=report)
        # The port after the app's if it is free, so that the tour is the same everywhere.
        self.notes = (
            None if "TOOLS_HTTP_ALLOW" in settings else Notes(data / "notes", report=report, wanted_port=port + 1)
        )

    @property
    def servers(self) -> tuple[Server, ...]:
        return (*self._provided.values(), *([self.notes] if self.notes is not None else []))

    def leave_out(self, server: Server) -> None:
        """Go on without a server that cannot be installed; its setting stays unset."""
        self._provided = {setting: one for setting, one in self._provided.items() if one is not server}

    @property
    def uses_offline_model(self) -> bool:
        return "OPENAI_BASE_URL" in self._provided

    def app_environment(self, *, port: int) -> dict[str, str]:
        """The app's environment. Call it when the servers run."""
        defaults = {
            "AUTH_MODE": "dev",
            # The page of a front end's own development server calls this host from another origin.
            CORS_LOCAL_SETTING: "true",
            "PUBLIC_BASE_URL": f"http://localhost:{port}",
            **_secrets(self._data),
            **{setting: server.url for setting, server in self._provided.items()},
        }
        if "AzureWebJobsStorage" in self._provided:
            defaults["TRIGGER_QUEUE"] = TRIGGER_QUEUE
        if self.notes is not None:
            defaults["TOOLS_HTTP_ALLOW"] = f"localhost:{self.notes.port}"
            defaults["WEBHOOK_HOSTS"] = f"public,localhost:{self.notes.port}"
        if self.uses_offline_model:
            defaults |= {"OPENAI_API_KEY": "offline", "OPENAI_MODEL": "offline-demo"}
        own = {name: value for name, value in defaults.items() if name not in self._settings}
        hosts = allowed_hosts(self._settings.get(HOSTS_SETTING, ""), self._settings.get("PUBLIC_BASE_URL", ""))
        return dict(os.environ) | own | hosts | beside_the_proxy(os.environ)


def allowed_hosts(listed: str, public_base_url: str) -> dict[str, str]:
    """The setting of the host's names: the listed ones, and the one that the app's links lead to."""
    try:
        public = name_of(urlsplit(public_base_url).netloc.rpartition("@")[2].encode())
    except ValueError:
        public = None  # the app says what is wrong with it
    names = [part.strip() for part in listed.split(",") if part.strip()]
    if public is not None and not is_loopback_name(public) and public not in names:
        names.append(public)
    return {HOSTS_SETTING: ",".join(names)} if names else {}


def beside_the_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that keep requests to this machine's own servers away from a configured proxy."""
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if not any(environment.get(name) for name in _PROXIES) or given.strip() == "*":
        return {}
    named = [part.strip() for part in given.split(",") if part.strip()]
    direct = ",".join([*named, *(name for name in _LOOPBACK_NAMES if name not in named)])
    # Programs that read both prefer the lower-case one.
    return {"no_proxy": direct, "NO_PROXY": direct}


def _secrets(data: Path) -> dict[str, str]:
    """The secrets of a data folder, made once, so that links and signatures stay valid after a restart."""
    path = data / "secrets.json"
    try:
        read = json.loads(path.read_text())
    except FileNotFoundError:
        read = {
            "APPROVAL_LINK_SECRET": secrets.token_urlsafe(48),
            "APPROVAL_WEBHOOK_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        }
        write_private(path, json.dumps(read))
    except ValueError as error:
        raise ServerError(f"{path} is damaged: remove it; links sent so far then stop working") from error
    return {str(name): str(value) for name, value in read.items()}
