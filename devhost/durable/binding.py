"""The payload of the `durableClient` binding for the SDK, and the management links of an instance.

Invariant: links for users carry the system key and the public origin. The SDK's own calls go to the rpc
prefix on loopback, which appears in no link.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from devhost.durable.store import jsontext

WEBHOOK_PREFIX = "/runtime/webhooks/durabletask"
RPC_PREFIX = "/durabletask"
CONNECTION = "Storage"
_PLACEHOLDER = "INSTANCEID"


@dataclass(frozen=True, slots=True)
class Links:
    """base_url: public origin without a trailing slash. local_url: the SDK's own; empty: base_url on loopback."""

    base_url: str
    hub: str
    key: str
    local_url: str = ""

    def management(self, instance_id: str) -> dict[str, str]:
        """Links of one instance, as in the 202 response to a start."""
        instance = f"{self._webhook}/instances/{quote(instance_id, safe='@:')}"
        query = self._query
        return {
            "id": instance_id,
            "statusQueryGetUri": f"{instance}?{query}",
            "sendEventPostUri": f"{instance}/raiseEvent/{{eventName}}?{query}",
            "terminatePostUri": f"{instance}/terminate?reason={{text}}&{query}",
            "rewindPostUri": f"{instance}/rewind?reason={{text}}&{query}",
            "purgeHistoryDeleteUri": f"{instance}?{query}",
            "restartPostUri": f"{instance}/restart?{query}",
            "suspendPostUri": f"{instance}/suspend?reason={{text}}&{query}",
            "resumePostUri": f"{instance}/resume?reason={{text}}&{query}",
        }

    def client_payload(self) -> str:
        """The binding's JSON text."""
        start = f"{self._webhook}/orchestrators/{{functionName}}[/{{instanceId}}]"
        wait = "timeout={timeoutInSeconds}&pollingInterval={intervalInSeconds}"
        return jsontext.dumps(
            {
                "taskHubName": self.hub,
                "creationUrls": {
                    "createNewInstancePostUri": f"{start}?code={self.key}",
                    "createAndWaitOnNewInstancePostUri": f"{start}?{wait}&code={self.key}",
                },
                "managementUrls": self.management(_PLACEHOLDER),
                "baseUrl": self._webhook,
                "requiredQueryStringParameters": f"code={self.key}",
                "rpcBaseUrl": f"{self.local_url or _loopback(self.base_url)}{RPC_PREFIX}/",
                "connectionName": None,
                "httpBaseUrl": None,
            }
        )

    @property
    def _webhook(self) -> str:
        return f"{self.base_url}{WEBHOOK_PREFIX}"

    @property
    def _query(self) -> str:
        return f"taskHub={self.hub}&connection={CONNECTION}&code={self.key}"


def _loopback(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.hostname in ("127.0.0.1", "localhost", "::1"):
        return base_url
    return f"http://127.0.0.1:{parts.port or 80}"
