from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devhost.extensions.contract import HostError
from devhost.runner import HostOptions, run_host
from devhost.settings.config import (
    app_environment,
    function_timeout_s,
    http_options,
    is_disabled,
    load_local_settings,
    replace_names,
)
from devhost.settings.host_json import load_host_json, section

pytestmark = pytest.mark.usefixtures("forked_workers")


def host_json(tmp_path: Path, value: Any, settings: dict[str, str] | None = None) -> dict[str, Any]:
    (tmp_path / "host.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return load_host_json(tmp_path, settings or {})


def test_missing_host_json_says_where_to_start(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"no host\.json: start devhost in the folder"):
        load_host_json(tmp_path, {})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "line 1, column 2"),
        ("[]", "must hold a JSON object"),
        ({}, '"version" must be "2.0"'),
        ({"version": "1.0"}, '"version" must be "2.0"'),
        ({"version": "2.0", "customHandler": {}}, '"customHandler" is not supported'),
        ({"version": "2.0", "extensions": {"durableTusk": {}}}, '"extensions.durableTusk"'),
        ({"version": "2.0", "extensions": {"http": {"routePerfix": "x"}}}, '"extensions.http.routePerfix"'),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(HostError, match=message):
        host_json(tmp_path, value)


def test_known_sections_without_effect_are_accepted(tmp_path: Path) -> None:
    host_json(
        tmp_path,
        {
            "version": "2.0",
            "$schema": "x",
            "logging": {"applicationInsights": {}},
            "extensionBundle": {"id": "x", "version": "[4.*, 5.0.0)"},
            "healthMonitor": {"enabled": True},
            "extensions": {"queues": {"batchSize": 16}, "DurableTask": {"hubName": "x"}},
        },
    )


def test_app_settings_override_host_json(tmp_path: Path) -> None:
    config = host_json(
        tmp_path,
        {"version": "2.0", "extensions": {"durableTask": {"hubName": "one"}}},
        {
            "AzureFunctionsJobHost__extensions__durableTask__hubName": "two",
            "AzureFunctionsJobHost__Extensions__DurableTask__maxConcurrentActivityFunctions": "7",
            "azurefunctionsjobhost__extensions__http__routePrefix": "v1/",
            "AzureFunctionsJobHost__functionTimeout": "00:00:05",
        },
    )

    assert dict(section(config, "extensions", "durabletask")) == {"hubName": "two", "maxConcurrentActivityFunctions": 7}
    assert http_options(config).route_prefix == "v1"
    assert function_timeout_s(config) == 5


def test_override_of_an_unknown_section_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"extensions\.nope"):
        host_json(tmp_path, {"version": "2.0"}, {"AzureFunctionsJobHost__extensions__nope__a": "1"})


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:05:00", 300), ("01:00:00", 3600), ("1.00:00:01", 86401), ("-1", None), (None, 1800)]
)
def test_function_timeout_is_a_time_span_or_unlimited(text: str | None, seconds: float | None) -> None:
    assert function_timeout_s({} if text is None else {"functionTimeout": text}) == seconds


def test_wrong_function_timeout_names_the_key() -> None:
    with pytest.raises(HostError, match="functionTimeout"):
        function_timeout_s({"functionTimeout": "five minutes"})


def local_settings(tmp_path: Path, value: Any) -> Path:
    (tmp_path / "local.settings.json").write_text(json.dumps(value), "utf-8-sig")
    return tmp_path


def test_local_settings_are_read(tmp_path: Path) -> None:
    settings = load_local_settings(
        local_settings(
            tmp_path,
            {
                "IsEncrypted": False,
                "Values": {"A": "1", "B": True, "C": 5},
                "ConnectionStrings": {"Db": "x=y"},
                "Host": {"LocalHttpPort": 7072, "CORS": "http://a, http://b/", "CORSCredentials": True},
            },
        )
    )

    assert settings.values == {"A": "1", "B": "true", "C": "5", "ConnectionStrings:Db": "x=y"}
    assert (settings.http_port, settings.cors_origins, settings.cors_credentials) == (
        7072,
        ("http://a", "http://b"),
        True,
    )


def test_local_settings_are_optional(tmp_path: Path) -> None:
    assert load_local_settings(tmp_path).values == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"IsEncrypted": True}, "func settings decrypt"),
        ({"Values": {"A": {"b": 1}}}, "Values.A must be a string"),
        ({"Host": {"LocalHttpPort": "http"}}, "LocalHttpPort"),
        ({"Host": {"CORS": "*", "CORSCredentials": True}}, "list the origins"),
    ],
)
def test_malformed_local_settings_say_what_to_change(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(HostError, match=message):
        load_local_settings(local_settings(tmp_path, value))


def test_names_in_bindings_are_replaced() -> None:
    raw = {"type": "signalR", "hubName": "%HUB%-%env%", "many": ["%HUB%"], "route": "100%"}

    assert replace_names(raw, {"HUB": "chat", "ENV": "dev"}, "f") == {
        "type": "signalR",
        "hubName": "chat-dev",
        "many": ["chat"],
        "route": "100%",
    }


def test_missing_name_in_a_binding_is_refused() -> None:
    with pytest.raises(HostError, match=r"f: hubName: %HUB% is not an app setting; add HUB"):
        replace_names({"hubName": "%HUB%"}, {}, "f")


@pytest.mark.parametrize(
    ("name", "value", "disabled"),
    [
        ("AzureWebJobs.f.Disabled", "true", True),
        ("AzureWebJobs.F.Disabled", "1", True),
        ("AzureWebJobs__f__Disabled", "True", True),
        ("AzureWebJobs.f.Disabled", "false", False),
        ("AzureWebJobs.g.Disabled", "true", False),
    ],
)
def test_function_is_disabled_by_setting(name: str, value: str, disabled: bool) -> None:
    assert is_disabled("f", {name: value}) is disabled


HTTP_APP = """
import azure.functions as func
app = func.FunctionApp()

@app.route("ok")
def ok(req: func.HttpRequest) -> str:
    return "ok"

@app.{decorator}
def bad({parameter}): ...
"""


@pytest.mark.parametrize(
    ("decorator", "parameter", "message"),
    [
        (
            'blob_trigger(arg_name="m", path="a/b", connection="c")',
            "m: func.InputStream",
            "'bad'.*'blobTrigger'",
        ),
        ('generic_trigger(arg_name="m", type="oddTrigger")', "m", "'bad'.*'oddTrigger'"),
        ('timer_trigger(arg_name="t", schedule="%NOWHERE%")', "t: func.TimerRequest", "'bad'.*'t'.*%NOWHERE%"),
        ('timer_trigger(arg_name="t", schedule="0 * * * * *")', "other: func.TimerRequest", "cannot load the bad"),
        ('route("admin/x")', "req: func.HttpRequest", "'bad'.*'admin'"),
        ('route("a/{x:odd}")', "req: func.HttpRequest", "'bad'.*'odd'"),
    ],
)
async def test_function_that_cannot_be_served_is_named(
    make_app: Callable[..., Path], tmp_path: Path, decorator: str, parameter: str, message: str
) -> None:
    app = make_app(function_app__py=HTTP_APP.format(decorator=decorator, parameter=parameter))
    with pytest.raises(HostError, match=message):
        async with run_host(HostOptions(app, port=0, data_dir=tmp_path / "data")):
            pass


async def test_output_binding_nobody_serves_is_named(make_app: Callable[..., Path], tmp_path: Path) -> None:
    app = make_app(
        function_app__py="""
import azure.functions as func
app = func.FunctionApp()

@app.route("x")
@app.blob_output(arg_name="out", path="a/b", connection="c")
def sends(req: func.HttpRequest, out: func.Out[str]) -> str:
    return "ok"
"""
    )
    with pytest.raises(HostError, match=r"'sends'.*'blob'"):
        async with run_host(HostOptions(app, port=0, data_dir=tmp_path / "data")):
            pass


async def test_only_listed_functions_are_served(make_app: Callable[..., Path], tmp_path: Path) -> None:
    app = make_app(
        function_app__py=HTTP_APP.format(decorator='generic_trigger(arg_name="m", type="oddTrigger")', parameter="m")
    )
    (app / "host.json").write_text('{"version": "2.0", "functions": ["OK"]}')
    async with run_host(HostOptions(app, port=0, data_dir=tmp_path / "data")) as host:
        assert [function.name for function in host.context.functions] == ["ok"]


@pytest.mark.parametrize("chosen", ["", None])
def test_what_the_host_offers_fills_a_setting_nobody_chose(monkeypatch: pytest.MonkeyPatch, chosen: str | None) -> None:
    monkeypatch.delenv("OFFERED", raising=False)
    if chosen is not None:
        monkeypatch.setenv("OFFERED", chosen)
    environment = app_environment({"OFFERED": "", "OTHER": "local"}, {"OFFERED": "embedded"})
    assert (environment["OFFERED"], environment["OTHER"]) == ("embedded", "local")
    assert os.environ.get("OFFERED") == chosen
    assert "OTHER" not in os.environ


def test_what_somebody_chose_wins_over_what_the_host_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFERED", "real")
    assert app_environment({"OFFERED": "local"}, {"OFFERED": "embedded"})["OFFERED"] == "real"


def test_comments_and_trailing_commas_are_taken_as_in_azure(make_app: Callable[..., Path]) -> None:
    app = make_app(
        host__json='{"version": "2.0", /* ours */ "functionTimeout": "00:01:00",} // the end',
        local__settings__json='// local only\n{"Values": {"URL": "https://a.example/b", }}',
    )
    assert load_host_json(app, {})["functionTimeout"] == "00:01:00"
    assert load_local_settings(app).values == {"URL": "https://a.example/b"}


def test_what_is_not_json_either_way_is_refused_with_its_place(make_app: Callable[..., Path]) -> None:
    with pytest.raises(HostError, match=r"host\.json is not valid JSON \(line 1, column 2\)"):
        load_host_json(make_app(host__json="{no"), {})
