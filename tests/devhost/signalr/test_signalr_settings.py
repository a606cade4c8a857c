"""Connection strings, binding properties and expressions: understood, or refused with a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from devhost.extensions.contract import Binding, Direction, Function, HostContext, HostError, TriggerData
from devhost.signalr.connection_string import parse_connection_string, same_origin
from devhost.signalr.expressions import resolve_expressions
from devhost.signalr.extension import SignalRExtension
from devhost.signalr.triggers import find_triggers
from tests.devhost.signalr.signalr_harness import FakeHost, connection_info, function, host_context, output

AZURE = "Endpoint=https://parrot.service.signalr.net;AccessKey=c2VjcmV0LWtleS1vZi1mb3J0eS1ieXRlcw==;Version=1.0;"


def bound(context: HostContext) -> SignalRExtension:
    extension = SignalRExtension()
    extension.bind(FakeHost(context))
    return extension


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (AZURE, "https://parrot.service.signalr.net"),
        ("endpoint=http://localhost;port=8888;accesskey=a=b==", "http://localhost:8888"),
        ("Endpoint=http://127.0.0.1:7071/;AccessKey=k", "http://127.0.0.1:7071"),
    ],
)
def test_connection_strings_of_azure_emulator_and_dev_host_are_read(text: str, endpoint: str) -> None:
    assert parse_connection_string(text, setting="S").endpoint == endpoint


def test_client_and_server_may_have_addresses_of_their_own() -> None:
    parsed = parse_connection_string(
        f"{AZURE}ClientEndpoint=https://front.example/signalr;ServerEndpoint=https://back.example", setting="S"
    )
    assert parsed.client_url("chat") == "https://front.example/signalr/client/?hub=chat"
    assert parsed.server_endpoint == "https://back.example"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Endpoint=https://x.service.signalr.net;AuthType=azure.msi;Version=1.0;", "AuthType=azure.msi"),
        ("Endpoint=https://x.service.signalr.net;AuthType=azure;ClientId=1;", "AuthType=azure"),
        ("Endpoint=https://x.service.signalr.net;", "AccessKey is missing"),
        ("AccessKey=secretsecret", "Endpoint is missing"),
        ("Endpoint=ftp://x;AccessKey=secretsecret", "http or https"),
        ("Endpoint=http://x:99999;AccessKey=secretsecret", "not an address"),
        ("Endpoint=http://x;Port=0;AccessKey=secretsecret", "Port=0"),
        ("Endpoint=http://x;AccessKey=secretsecret;Version=2.0", "Version=2.0"),
        ("secretsecret", "no SignalR connection string"),
    ],
)
def test_other_connection_strings_are_refused_by_name_without_showing_the_key(text: str, complaint: str) -> None:
    with pytest.raises(HostError, match=complaint) as refused:
        parse_connection_string(text, setting="MySetting")
    assert "MySetting" in str(refused.value)
    assert "secretsecret" not in str(refused.value)


def test_loopback_names_count_as_the_same_server() -> None:
    assert same_origin("http://localhost:7071", "http://127.0.0.1:7071/x")
    assert not same_origin("http://localhost:7071", "http://localhost:7072")
    assert not same_origin("https://localhost", "http://localhost")


@pytest.mark.parametrize(
    ("binding", "settings", "complaint"),
    [
        (connection_info(hub="no-dashes"), {}, "hubName must be"),
        (connection_info(hubName=None), {}, "hubName must be"),
        (connection_info(surprise=1), {}, "no property surprise"),
        (connection_info(userId="{sys.randguid}"), {}, r"\{sys.randguid\}"),
        (connection_info(claimTypeList="name"), {}, "claimTypeList must be"),
        (connection_info(connectionStringSetting="Missing"), {}, "Missing is not set"),
        (
            connection_info(connectionStringSetting="Id"),
            {"Id__serviceUri": "https://x.service.signalr.net"},
            "identity-based",
        ),
    ],
)
def test_a_wrong_binding_stops_the_host_with_its_name(
    tmp_path: Path, binding: Binding, settings: dict[str, str], complaint: str
) -> None:
    defaults = SignalRExtension().default_settings("http://127.0.0.1:7071")
    context = host_context(tmp_path, settings={**defaults, **settings}, functions=[function(inputs=(binding,))])
    with pytest.raises(HostError, match=complaint):
        bound(context)


@pytest.mark.parametrize(
    ("route", "http"), [("hubs/{id}", {}), ("v1/hubs", {}), ("client/negotiate", {"routePrefix": ""})]
)
def test_a_route_of_the_app_at_the_endpoints_own_address_stops_the_host(
    tmp_path: Path, route: str, http: dict[str, Any]
) -> None:
    context = host_context(
        tmp_path,
        settings={"AzureSignalRConnectionString": AZURE},
        functions=[function(outputs=(output(),), route=route)],
        host_json={"extensions": {"http": http}},
    )
    with pytest.raises(HostError, match="SignalR endpoint; change the route"):
        bound(context)


def test_expressions_take_headers_query_and_route_values() -> None:
    trigger = TriggerData(headers={"x-user": "anna"}, query={"Room": "7"}, route={"team": "red"})
    assert resolve_expressions("{headers.X-User}/{query.room}/{team}", trigger) == "anna/7/red"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("{user}", "of the body"),
        ("{room}", "of the query"),  # over the body
        ("{team}", "of the route"),  # over both
        ("{who.name}", "nested"),
        ("{count}", "3"),
        ("{headers.x-user}", "eve"),
    ],
)
def test_expressions_read_body_query_and_route_in_azures_order(expression: str, value: str) -> None:
    trigger = TriggerData(
        headers={"x-user": "eve"},
        query={"room": "of the query", "team": "of the query"},
        route={"team": "of the route"},
        body={"User": "of the body", "room": "body", "team": "body", "who": {"name": "nested"}, "count": 3},
    )
    assert resolve_expressions(expression, trigger) == value


@pytest.mark.parametrize("part", [{"body": {"Headers": {"X-User": "ann"}}}, {"query": {"headers": "ann"}}])
def test_a_caller_can_put_something_else_in_the_place_of_the_headers(part: dict[str, Any]) -> None:
    """Azure's rule, and why no app may trust `{headers.…}`."""
    trigger = TriggerData(headers={"x-user": "eve"}, **part)
    if "body" in part:
        assert resolve_expressions("{headers.x-user}", trigger) == "ann"
    else:
        with pytest.raises(ValueError, match="no such value"):
            resolve_expressions("{headers.x-user}", trigger)


@pytest.mark.parametrize("expression", ["{headers.x-user}", "{query.user}", "{team}"])
def test_an_expression_without_a_value_fails_instead_of_being_empty(expression: str) -> None:
    with pytest.raises(ValueError, match="no such value"):
        resolve_expressions(expression, TriggerData())


async def test_connection_info_for_a_service_elsewhere_is_signed_with_its_key(tmp_path: Path) -> None:
    extension = bound(host_context(tmp_path, settings={"AzureSignalRConnectionString": AZURE}))
    binding = connection_info(hub="Chat", userId="{headers.x-user}")
    info = json.loads(await extension.resolve_input(binding, TriggerData(headers={"x-user": "anna"})))
    assert info["url"] == "https://parrot.service.signalr.net/client/?hub=chat"
    claims = jwt.decode(
        info["accessToken"],
        "c2VjcmV0LWtleS1vZi1mb3J0eS1ieXRlcw==",
        algorithms=["HS256"],
        audience="https://parrot.service.signalr.net/client/?hub=chat",
    )
    assert claims["asrs.s.uid"] == "anna"
    assert claims["exp"] - claims["iat"] == 3600
    await extension.stop()


async def test_listed_claims_of_the_id_token_travel_to_the_client_token(tmp_path: Path) -> None:
    extension = bound(host_context(tmp_path, settings={"AzureSignalRConnectionString": AZURE}))
    id_token = jwt.encode({"name": "Anna", "exp": 1, "mail": "a@x"}, "the identity provider's key, unknown here")
    binding = connection_info(idToken="{headers.x-token}", claimTypeList=["name", "exp"])
    info = json.loads(await extension.resolve_input(binding, TriggerData(headers={"x-token": id_token})))
    claims = jwt.decode(info["accessToken"], options={"verify_signature": False})
    assert claims["name"] == "Anna"
    assert claims["asrs.u.exp"] == 1
    assert "mail" not in claims
    await extension.stop()


async def test_a_token_outlives_a_restart_of_the_host(tmp_path: Path) -> None:
    def start() -> SignalRExtension:
        settings = SignalRExtension().default_settings("http://127.0.0.1:7071")
        return bound(host_context(tmp_path, settings=settings))

    first = start()
    info = json.loads(await first.resolve_input(connection_info(userId="anna"), TriggerData()))
    await first.stop()
    second = start()
    claims = second.service.client_claims(info["accessToken"], hub="chat", origin="http://other")
    assert claims["asrs.s.uid"] == "anna"
    assert (tmp_path / "signalr" / "access-key").stat().st_mode & 0o077 == 0
    await second.stop()


SAY = {"hubName": "chat", "category": "messages", "event": "say"}


def trigger(name: str = "say", **fields: object) -> Function:
    return Function(name, name, Binding("signalRTrigger", "invocation", Direction.IN, {**SAY, **fields}), (), ())


@pytest.mark.parametrize(
    ("functions", "told"),
    [
        ([trigger(hubName="a b")], "hubName must be letters, digits and underscores"),
        ([trigger(category="calls")], "category must be connections or messages, not 'calls'"),
        ([trigger(category="connections")], "event must be connected or disconnected in category connections"),
        ([trigger(event="")], "event must be the name of the method that clients call"),
        ([trigger(parameterNames="text")], "parameterNames must be an array of strings"),
        ([trigger(parameterNames=["text", "Text"])], "parameterNames must differ by more than upper and lower case"),
        ([trigger(colour="red")], "signalRTrigger has no property colour in the dev host"),
        ([trigger(), trigger("again", event="SAY")], "say already has the trigger of hub chat"),
    ],
)
def test_a_trigger_that_means_nothing_is_refused_by_name(functions: list[Function], told: str) -> None:
    with pytest.raises(HostError, match=rf"^function {functions[-1].name}\b.*{told}"):
        find_triggers(functions, "AzureSignalRConnectionString")
