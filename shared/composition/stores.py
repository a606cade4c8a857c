"""The stores of the domain, over the connections of this process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from shared.adapters.azure.audit_tables import TablesAuditLines
from shared.composition.connections import Connections
from shared.durable.hub import TaskHub
from shared.sessions.audit.forwarding import AuditForwarder
from shared.sessions.audit.sealing import Sealer
from shared.signing import SigningKeys, derive_key

if TYPE_CHECKING:
    from shared.adapters.postgres.attachments import PostgresAttachments
    from shared.adapters.postgres.audit import PostgresAuditTrail
    from shared.adapters.postgres.hubs import PostgresHubs
    from shared.adapters.postgres.metrics import PostgresGauges
    from shared.adapters.postgres.sessions.sessions import PostgresSessions
    from shared.adapters.postgres.turns.approvals import PostgresApprovals
    from shared.adapters.postgres.turns.background import PostgresBackground
    from shared.adapters.postgres.turns.children import PostgresChildren
    from shared.adapters.postgres.turns.steps import PostgresSteps
    from shared.adapters.postgres.turns.tool_calls import PostgresToolCalls
    from shared.adapters.postgres.turns.turns import PostgresTurns
    from shared.adapters.postgres.turns.waits import PostgresWaits
    from shared.adapters.postgres.turns.workflows import PostgresWorkflows
    from shared.adapters.redis.events import RedisEventLog


class Stores(Connections):
    """The stores that several services share; a store of a single service is made beside that service."""

    @cached_property
    def task_hub(self) -> TaskHub:
        return TaskHub()

    @cached_property
    def hubs(self) -> PostgresHubs:
        from shared.adapters.postgres.hubs import PostgresHubs

        return PostgresHubs(self.pool)

    @cached_property
    def session_rows(self) -> PostgresSessions:
        from shared.adapters.postgres.sessions.sessions import PostgresSessions

        return PostgresSessions(self.pool, self.task_hub)

    @cached_property
    def turn_rows(self) -> PostgresTurns:
        from shared.adapters.postgres.turns.turns import PostgresTurns

        return PostgresTurns(self.pool, self.task_hub)

    @cached_property
    def step_rows(self) -> PostgresSteps:
        from shared.adapters.postgres.turns.steps import PostgresSteps

        return PostgresSteps(self.pool, self.task_hub)

    @cached_property
    def tool_call_rows(self) -> PostgresToolCalls:
        from shared.adapters.postgres.turns.tool_calls import PostgresToolCalls

        return PostgresToolCalls(self.pool, self.audit_trail)

    @cached_property
    def approval_rows(self) -> PostgresApprovals:
        from shared.adapters.postgres.turns.approvals import PostgresApprovals

        return PostgresApprovals(self.pool, self.audit_trail, self.task_hub)

    @cached_property
    def wait_rows(self) -> PostgresWaits:
        from shared.adapters.postgres.turns.waits import PostgresWaits

        return PostgresWaits(self.pool, self.audit_trail, self.task_hub)

    @cached_property
    def workflow_rows(self) -> PostgresWorkflows:
        from shared.adapters.postgres.turns.workflows import PostgresWorkflows

        return PostgresWorkflows(self.pool, self.task_hub)

    @cached_property
    def child_rows(self) -> PostgresChildren:
        from shared.adapters.postgres.turns.children import PostgresChildren

        return PostgresChildren(self.pool)

    @cached_property
    def background_rows(self) -> PostgresBackground:
        from shared.adapters.postgres.turns.background import PostgresBackground

        return PostgresBackground(self.pool, self.audit_trail, self.task_hub)

    @cached_property
    def attachment_rows(self) -> PostgresAttachments:
        from shared.adapters.postgres.attachments import PostgresAttachments

        return PostgresAttachments(self.pool)

    @cached_property
    def audit_trail(self) -> PostgresAuditTrail:
        from shared.adapters.postgres.audit import PostgresAuditTrail

        return PostgresAuditTrail(self.pool, self.audit_sealer, self.audit_forwarder.committed)

    @cached_property
    def audit_sealer(self) -> Sealer:
        return Sealer(self.audit_keys)

    @cached_property
    def audit_forwarder(self) -> AuditForwarder:
        from shared.adapters.postgres.audit import PostgresAuditOutbox

        return AuditForwarder(PostgresAuditOutbox(self.pool), self.audit_lines, keys=self.audit_keys)

    @cached_property
    def audit_keys(self) -> tuple[bytes, ...]:
        """The first seals, all verify."""
        return self.derived_keys("parley/audit")

    def derived_keys(self, purpose: str) -> tuple[bytes, ...]:
        """One of each secret, retired ones last."""
        signing = SigningKeys.parse(self.settings.approval_link_secret)
        secrets = (*signing.secrets.values(), *signing.retired.values())
        return tuple(derive_key(secret, purpose) for secret in secrets)

    @cached_property
    def audit_lines(self) -> TablesAuditLines:
        return TablesAuditLines(
            connection_string=self.settings.azure_web_jobs_storage, endpoint=self.settings.tables_endpoint
        )

    @cached_property
    def event_log(self) -> RedisEventLog:
        from shared.adapters.redis.events import RedisEventLog

        settings = self.settings
        log = RedisEventLog(
            self.redis,
            self.listening_redis,
            self.redis_guard,
            length=settings.event_buffer_length,
            ttl_seconds=settings.event_buffer_seconds,
        )
        if self.redis_credentials is not None:
            self.redis_credentials.on_next(lambda _token: log.renew())
        return log

    @cached_property
    def gauges(self) -> PostgresGauges:
        from shared.adapters.postgres.metrics import PostgresGauges

        return PostgresGauges(self.pool)
