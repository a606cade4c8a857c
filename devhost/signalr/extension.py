"""The SignalR binding extension: `signalRConnectionInfo`, `signalR` and `signalRTrigger`, for the embedded or another
service.

Invariant: only its connection string decides which service a binding uses. A string that points at the dev
host itself is served in process; any other service is called as Azure would call it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import BaseRoute, Route

from devhost.extensions.contract import Binding, Function, Host, HostContext, HostError, Shown, Table, TriggerData
from devhost.signalr.connection_string import (
    DEFAULT_SETTING,
    ConnectionString,
    connection_string_of,
    parse_connection_string,
    same_origin,
)
from devhost.signalr.expressions import resolve_expressions, unsupported_expressions
from devhost.signalr.outputs import HubMessage, read_output
from devhost.signalr.senders import EmbeddedSender, RemoteSender, RestClient, Sender
from devhost.signalr.service import tokens
from devhost.signalr.service.clients import client_routes
from devhost.signalr.service.connection import Limits
from devhost.signalr.service.data_plane import data_plane_routes
from devhost.signalr.service.memberships import UserGroups
from devhost.signalr.service.service import SignalRService, is_hub_name, load_access_key
from devhost.signalr.service.upstream import Upstream
from devhost.signalr.triggers import TRIGGER, WEBHOOK, Key, Trigger, Webhook, find_triggers

UPSTREAM_SETTING = "DEVHOST_SIGNALR_UPSTREAM"
"""Of a service that stands alone: the webhook of the app that hears its clients."""
CONNECTION_INFO, OUTPUT = "signalRConnectionInfo", "signalR"

_COMMON_KEYS = {"type", "name", "direction", "datatype", "hubname", "connectionstringsetting", "properties"}
_INPUT_KEYS = _COMMON_KEYS | {"userid", "idtoken", "claimtypelist"}
_OWN_PATHS = (("client",), ("api", "hubs"), ("api", "v1", "hubs"))


class SignalRExtension:
    """See `devhost.extensions.contract.Extension`. limits: for tests."""

    name = "signalR"
    trigger_types = frozenset({TRIGGER})
    input_types = frozenset({CONNECTION_INFO})
    output_types = frozenset({OUTPUT})

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._settings_key = base64.b64encode(secrets.token_bytes(32)).decode("ascii")
        self._context: HostContext | None = None
        self._service: SignalRService | None = None
        self._user_groups: UserGroups | None = None
        self._rest = RestClient()
        self._services: dict[str, ConnectionString] = {}
        self._senders: dict[tuple[str, str], Sender] = {}
        self._webhook: Webhook

    @property
    def service(self) -> SignalRService:
        """The embedded service; it does not exist before `bind`."""
        if self._service is None:
            raise RuntimeError("SignalRExtension.bind was not called")
        return self._service

    def default_settings(self, base_url: str) -> Mapping[str, str]:
        """The connection string of the embedded endpoint, for apps without one."""
        return {DEFAULT_SETTING: f"Endpoint={base_url};AccessKey={self._settings_key};Version=1.0;"}

    def bind(self, host: Host) -> None:
        context = host.context
        self._context = context
        bindings = [
            (function, binding)
            for function in context.functions
            for binding in (*function.inputs, *function.outputs)
            if binding.type in {CONNECTION_INFO, OUTPUT}
        ]
        for function, binding in bindings:
            _check_binding(function, binding)
            setting = _setting_of(binding)
            self._services[setting] = connection_string_of(context.settings, setting)
        triggers = find_triggers(context.functions, DEFAULT_SETTING)
        for trigger in triggers.values():
            self._services[trigger.setting] = connection_string_of(context.settings, trigger.setting)
        self._open_service(context)
        self._listen(host, triggers)
        if bindings or triggers:
            _refuse_collisions(context)

    def routes(self) -> Sequence[BaseRoute]:
        service = self.service
        webhook = Route(WEBHOOK, self._webhook.answer, methods=["POST"])
        return [*client_routes(service), *data_plane_routes(service), webhook]

    def overview(self) -> Sequence[Shown]:
        """The connections and their groups."""
        rows = [
            [
                (connection.connection_id, None),
                (connection.user_id or "", None),
                (hub.name, None),
                (", ".join(sorted(connection.groups)), None),
            ]
            for hub in self.service.hubs()
            for connection in hub.connections.values()
        ]
        return [Table("Connected clients", ("Connection", "User", "Hub", "Groups"), rows)]

    def page(self, detail: str | None, query: Mapping[str, str]) -> Sequence[Shown]:
        """No further pages: the overview shows everything."""
        return []

    async def start(self) -> None:
        self.service.start()

    async def stop(self) -> None:
        if self._service is not None:
            await self._service.stop()
        await self._rest.close()
        if self._user_groups is not None:
            self._user_groups.close()

    async def resolve_input(self, binding: Binding, trigger: TriggerData) -> str | bytes:
        """`{"url", "accessToken"}` as JSON. Raises ValueError when an expression has no value."""
        fields = _fields(binding)
        service = self._services[_setting_of(binding)]
        hub = str(fields["hubname"]).lower()
        user_id = None
        if fields.get("userid"):
            user_id = resolve_expressions(str(fields["userid"]), trigger)
        claims: dict[str, Any] = {}
        if fields.get("idtoken") and fields.get("claimtypelist"):
            id_token = resolve_expressions(str(fields["idtoken"]), trigger)
            claims = tokens.unverified_claims(id_token, fields["claimtypelist"])
        url = service.client_url(hub)
        # Signed with the endpoint's stored key, not with the key in the settings, which is new at each start.
        key = self.service.keys[0] if self._is_embedded(service) else service.access_key
        token = tokens.sign(key, audience=url, user_id=user_id or None, claims=claims)
        return json.dumps({"url": url, "accessToken": token})

    async def send_output(self, binding: Binding, value: Any) -> None:
        """Send messages and group actions in order; of a malformed value nothing is sent."""
        sender = self._sender(_setting_of(binding), str(_fields(binding)["hubname"]))
        actions = read_output(value)
        for action in actions:
            if isinstance(action, HubMessage):
                self._check_size(action, value)
        for action in actions:
            await sender.perform(action)

    # -- helpers

    def _listen(self, host: Host, triggers: Mapping[Key, Trigger]) -> None:
        """Let functions hear their services, and clients of the embedded one be heard."""
        context, service = host.context, self.service
        keys = {
            trigger.setting: list(service.keys)
            if self._is_embedded(self._services[trigger.setting])
            else [self._services[trigger.setting].access_key]
            for trigger in triggers.values()
        }
        self._webhook = Webhook(host, triggers, keys)
        url = context.settings.get(UPSTREAM_SETTING, "").strip()
        if not url and any(self._is_embedded(self._services[trigger.setting]) for trigger in triggers.values()):
            url = f"{context.local_url or context.base_url}{WEBHOOK}"
        if url:
            if not url.startswith(("http://", "https://")):
                raise HostError(f"app setting {UPSTREAM_SETTING} must be an http or https address, not {url!r}")
            service.upstream = Upstream(url, service.keys)

    def _open_service(self, context: HostContext) -> None:
        folder = context.data_dir / "signalr"
        folder.mkdir(parents=True, exist_ok=True)
        keys = [load_access_key(folder), self._settings_key]
        own = context.settings.get(DEFAULT_SETTING, "")
        services = list(self._services.values())
        if own.strip() and DEFAULT_SETTING not in self._services:
            # No binding uses this string, but the app's own code may (hand-made tokens, REST calls). So a string
            # that the dev host does not understand is not an error.
            with contextlib.suppress(HostError):
                services.append(parse_connection_string(own, setting=DEFAULT_SETTING))
        keys += [service.access_key for service in services if same_origin(service.endpoint, context.base_url)]
        self._user_groups = UserGroups(folder / "groups.sqlite3")
        self._service = SignalRService(context.base_url, list(dict.fromkeys(keys)), self._user_groups, self._limits)

    def _is_embedded(self, service: ConnectionString) -> bool:
        return self._context is not None and same_origin(service.endpoint, self._context.base_url)

    def _sender(self, setting: str, hub: str) -> Sender:
        sender = self._senders.get((setting, hub))
        if sender is None:
            service = self._services[setting]
            sender = (
                EmbeddedSender(self.service.hub(hub))
                if self._is_embedded(service)
                else RemoteSender(self._rest, service, hub)
            )
            self._senders[setting, hub] = sender
        return sender

    def _check_size(self, message: HubMessage, value: Any) -> None:
        limit = self._limits.message_bytes
        if isinstance(value, str | bytes | bytearray) and len(value) * 4 <= limit:
            return  # cannot be too long in any encoding, so the usual case costs nothing
        size = len(json.dumps(message.arguments, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if size > limit:
            raise ValueError(f"a SignalR message of {size} bytes is over the service's limit of {limit}")


def _fields(binding: Binding) -> dict[str, Any]:
    return {name.lower(): value for name, value in binding.raw.items()}


def _setting_of(binding: Binding) -> str:
    return str(_fields(binding).get("connectionstringsetting") or DEFAULT_SETTING)


def _check_binding(function: Function, binding: Binding) -> None:
    where = f"function {function.name}, binding {binding.name}"
    fields = _fields(binding)
    known = _INPUT_KEYS if binding.type == CONNECTION_INFO else _COMMON_KEYS
    unknown = sorted(name for name in binding.raw if name.lower() not in known)
    if unknown:
        raise HostError(f"{where}: {binding.type} has no property {', '.join(unknown)} in the dev host")
    hub = fields.get("hubname")
    if not isinstance(hub, str) or not is_hub_name(hub):
        raise HostError(
            f"{where}: hubName must be letters, digits and underscores, beginning with a letter, not {hub!r}"
        )
    for name in ("userid", "idtoken"):
        for expression in unsupported_expressions(str(fields.get(name) or "")):
            raise HostError(
                f"{where}: the binding expression {{{expression}}} is not supported by the dev host; "
                "{headers.NAME}, {query.NAME} and route parameters are"
            )
    claims = fields.get("claimtypelist")
    if claims is not None and not (isinstance(claims, list) and all(isinstance(name, str) for name in claims)):
        raise HostError(f"{where}: claimTypeList must be an array of strings")


def _refuse_collisions(context: HostContext) -> None:
    """Refuse app routes at addresses of the SignalR endpoint, which would be shadowed silently."""
    http = context.host_json.get("extensions", {}).get("http", {})
    prefix = str(http.get("routePrefix", "api"))
    for function in context.functions:
        if function.trigger.type.lower() != "httptrigger":
            continue
        route = f"{prefix}/{function.trigger.raw.get('route') or function.name}"
        segments = tuple(part.lower() for part in route.split("/") if part)
        for own in _OWN_PATHS:
            if segments[: len(own)] == own:
                raise HostError(
                    f"function {function.name}: its route /{'/'.join(segments)} is an address of the dev host's "
                    "own SignalR endpoint; change the route, or routePrefix in host.json"
                )
