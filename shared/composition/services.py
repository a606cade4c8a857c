"""The composition root: where the domain meets its adapters, once per process, lazily.

Nothing here runs at import, and nothing connects until it is used; `services()` is what triggers and activities call.
"""

from __future__ import annotations

from functools import cache, cached_property

from shared import tracing
from shared.adapters.http.posting import GuardedWebhooks
from shared.adapters.http.webhook import ApprovalNotifier
from shared.adapters.mcp.allowed import AllowedServers
from shared.composition.agents import agent_folder
from shared.composition.turns import Turns
from shared.health import Check, HealthChecks
from shared.sessions.approvals.retelling import Retelling
from shared.sessions.audit.trail import ChainedAudit
from shared.sessions.audit.verification import AuditVerification
from shared.sessions.channels.carding import CardDeliverer
from shared.sessions.channels.cards import CardChannels
from shared.sessions.channels.delivering import WebhookDeliverer
from shared.sessions.channels.mail_server import MailServer
from shared.sessions.channels.secrets import WebhookSecrets
from shared.sessions.channels.webhooks import WebhookService
from shared.sessions.doors.threads import SessionThreads
from shared.sessions.features.pins import PinService
from shared.sessions.features.statistics import StatisticsService
from shared.sessions.features.tags import TagService
from shared.sessions.features.templates import TemplateService
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.loose import LooseBlobs
from shared.sessions.history.bookmarks import BookmarkService
from shared.sessions.history.export import ExportService
from shared.sessions.history.manager import HistoryManager
from shared.sessions.history.search import SearchBackfill
from shared.sessions.life.branches import BranchService
from shared.sessions.life.edits import EditService
from shared.sessions.life.erasure import SessionErasure
from shared.sessions.life.forks import ForkService
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.life.retention import RetentionPolicy, SessionRetention
from shared.sessions.life.titling import TitleModel, Titling
from shared.sessions.life.trials import AgentTrials
from shared.sessions.limits.requests import RatePolicy, RequestLimiter
from shared.sessions.measuring.sharing import SharedMetrics
from shared.sessions.metrics import metrics
from shared.sessions.records.approval_policy import Channel
from shared.sessions.recovery import SessionRecoveryManager
from shared.sessions.service import SessionService
from shared.sessions.tools.registry import take_from as take_tools_from
from shared.sessions.tools.running.masking import mask_log
from shared.sessions.unattended.running import ScheduleRunner
from shared.sessions.unattended.schedules import ScheduleService
from shared.sessions.unattended.triggers import TriggerService
from shared.sessions.unattended.webhooks import HookSecrets
from shared.settings import RateLimitFail, Settings, load_settings

_MODEL_PROBE_SECONDS = 15.0


class Services(Turns):
    """All services of one process, each made on first use and kept."""

    @cached_property
    def limiter(self) -> RequestLimiter:
        from shared.adapters.redis.buckets import RedisBuckets

        settings = self.settings
        policy = RatePolicy(settings.rate_limit_per_minute, settings.rate_limit_burst)
        return RequestLimiter(
            RedisBuckets(self.redis, self.redis_guard),
            policy if policy.per_minute else None,
            fail_open=settings.rate_limit_fail is RateLimitFail.OPEN,
        )

    @cached_property
    def health(self) -> HealthChecks:
        return HealthChecks(
            [
                Check("postgres", lambda: self.pool.ping(), needed=True),
                # Longer than the others: a cold instance loads the client first, and some models reason first.
                Check("model", lambda: self.model_probe.check(), needed=True, limit_s=_MODEL_PROBE_SECONDS),
                Check("redis", lambda: self.event_log.ping()),
                Check("storage", lambda: self.audit_lines.ping()),
                Check("audit", lambda: self.audit_forwarder.check_age()),
                Check("blobs", lambda: self.blobs.ping()),
                Check("signalr", lambda: self.signalr.ping()),
                Check("model_lane", lambda: self.model_lane.check()),
                Check("tool_lane", lambda: self.tool_lane.check()),
                Check("tool_threads", lambda: self.tool_threads.check()),
            ]
        )

    @cached_property
    def audit(self) -> ChainedAudit:
        from shared.adapters.postgres.audit import PostgresAuditAnchors

        anchors = PostgresAuditAnchors(self.pool)
        return ChainedAudit(anchors, self.audit_lines, self.session_rows.get, keys=self.audit_keys)

    @cached_property
    def audit_verification(self) -> AuditVerification:
        from shared.adapters.postgres.audit import PostgresVerifiedTrails

        retelling = Retelling(self.tool_call_rows, self.approval_rows)
        return AuditVerification(
            PostgresVerifiedTrails(self.pool), self.audit_lines, retelling.of_session, keys=self.audit_keys
        )

    @cached_property
    def sessions(self) -> SessionService:
        return SessionService(
            self.session_rows,
            self.turn_rows,
            self.publisher,
            self.planner,
            agents=self.agents,
            templates=self.templates,
            attachments=self.attachment_rows,
        )

    @cached_property
    def trials(self) -> AgentTrials:
        return AgentTrials(self.session_rows, self.agents, self.publisher)

    @cached_property
    def titling(self) -> Titling | None:
        """None: the settings name no model for titles."""
        from shared.adapters.postgres.sessions.titles import PostgresUntitled

        settings = self.settings
        if settings.session_title_model is None:
            return None
        model = TitleModel(settings.session_title_model, settings.api_of(settings.session_title_model))
        untitled = PostgresUntitled(self.pool)
        return Titling(
            untitled, self.planner, self.step_rows, self.model, settings.registry, self.publisher, model=model
        )

    @cached_property
    def schedules(self) -> ScheduleService:
        from shared.adapters.postgres.unattended.schedules import PostgresSchedules

        return ScheduleService(PostgresSchedules(self.pool), self.session_rows, self.agents)

    @cached_property
    def schedule_runner(self) -> ScheduleRunner:
        from shared.adapters.postgres.unattended.schedules import PostgresSchedules

        return ScheduleRunner(PostgresSchedules(self.pool), self.sessions)

    @cached_property
    def triggers(self) -> TriggerService:
        from shared.adapters.postgres.unattended.triggers import PostgresTriggers

        return TriggerService(
            PostgresTriggers(self.pool),
            self.session_rows,
            self.agents,
            self.sessions,
            HookSecrets(self.settings.approval_link_secret),
            public_base_url=self.settings.public_base_url,
            queue=self.settings.trigger_queue,
        )

    @cached_property
    def tags(self) -> TagService:
        from shared.adapters.postgres.features.features import PostgresTags
        from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle

        return TagService(PostgresTags(self.pool), PostgresLifecycle(self.pool))

    @cached_property
    def pins(self) -> PinService:
        from shared.adapters.postgres.features.pins import PostgresPins

        return PinService(self.session_cache, PostgresPins(self.pool))

    @cached_property
    def templates(self) -> TemplateService:
        from shared.adapters.postgres.features.features import PostgresTemplates

        return TemplateService(PostgresTemplates(self.pool), self.agents)

    @cached_property
    def statistics(self) -> StatisticsService:
        from shared.adapters.postgres.features.statistics import PostgresStatistics
        from shared.adapters.redis.statistics import RedisStatisticsCache

        return StatisticsService(PostgresStatistics(self.pool), RedisStatisticsCache(self.redis, self.redis_guard))

    @cached_property
    def branches(self) -> BranchService:
        from shared.adapters.postgres.branches.branches import PostgresBranches

        cache = self.session_cache
        return BranchService(cache, PostgresBranches(self.pool), self.publisher, self.planner, cache)

    @cached_property
    def edits(self) -> EditService:
        from shared.adapters.postgres.branches.edits import PostgresEdits

        edits = PostgresEdits(self.pool, self.task_hub)
        return EditService(edits, self.publisher, self.planner, self.attachment_rows, self.session_cache)

    @cached_property
    def forks(self) -> ForkService:
        from shared.adapters.postgres.branches.forks import PostgresForks

        return ForkService(PostgresForks(self.pool), self.publisher)

    @cached_property
    def recovery(self) -> SessionRecoveryManager:
        from shared.adapters.postgres.branches.checkpoints import PostgresCheckpoints

        cache = self.session_cache
        return SessionRecoveryManager(cache, PostgresCheckpoints(self.pool), self.publisher, cache)

    @cached_property
    def lifecycle(self) -> SessionLifecycle:
        from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle

        return SessionLifecycle(
            PostgresLifecycle(self.pool),
            self.publisher,
            self.session_rows.get,
            self.session_cache,
            agents=self.agents,
        )

    @cached_property
    def erasure(self) -> SessionErasure:
        from shared.adapters.postgres.sessions.erasure import PostgresErasures

        return SessionErasure(
            PostgresErasures(self.pool, self.audit_forwarder.committed, self.task_hub),
            self.publisher,
            [self.statistics, self.loose_blobs, self.audit],
            self.audit_sealer,
            self.session_cache,
        )

    @cached_property
    def retention(self) -> SessionRetention:
        from shared.adapters.postgres.sessions.retention import PostgresRetention

        policy = RetentionPolicy(self.settings.session_idle_days, self.settings.session_retention_days)
        return SessionRetention(PostgresRetention(self.pool), self.publisher, policy)

    @cached_property
    def metrics(self) -> SharedMetrics:
        from shared.adapters.redis.metrics import RedisMetrics

        return SharedMetrics(metrics, RedisMetrics(self.redis, self.redis_guard))

    @cached_property
    def loose_blobs(self) -> LooseBlobs:
        from shared.adapters.postgres.attachments import PostgresLooseBlobs

        return LooseBlobs(PostgresLooseBlobs(self.pool), self.blobs)

    @cached_property
    def history(self) -> HistoryManager:
        return HistoryManager(self.session_cache, self.turn_rows)

    @cached_property
    def exports(self) -> ExportService:
        return ExportService(self.session_rows, self.history, FileGenerator(), self.layouts)

    @cached_property
    def search_backfill(self) -> SearchBackfill:
        from shared.adapters.postgres.history.backfill import PostgresSearchBackfill

        return PostgresSearchBackfill(self.pool)

    @cached_property
    def bookmarks(self) -> BookmarkService:
        from shared.adapters.postgres.history.bookmarks import PostgresBookmarks

        return BookmarkService(self.session_cache, PostgresBookmarks(self.pool))

    @cached_property
    def notifier(self) -> ApprovalNotifier:
        settings = self.settings
        return ApprovalNotifier(
            self.approval_rows,
            self.links,
            url=settings.approval_webhook_url or "",
            secret=settings.approval_webhook_secret or "",
        )

    @cached_property
    def webhook_secrets(self) -> WebhookSecrets:
        return WebhookSecrets(self.derived_keys("parley/webhooks"))

    @cached_property
    def guarded_webhooks(self) -> GuardedWebhooks:
        return GuardedWebhooks(self.settings.webhook_hosts)

    @cached_property
    def webhooks(self) -> WebhookService:
        from shared.adapters.postgres.channels.webhooks import PostgresWebhooks

        return WebhookService(PostgresWebhooks(self.pool), self.webhook_secrets, self.guarded_webhooks)

    @cached_property
    def webhook_deliverer(self) -> WebhookDeliverer:
        from shared.adapters.postgres.channels.webhooks import PostgresDeliveries

        return WebhookDeliverer(PostgresDeliveries(self.pool), self.webhook_secrets, self.guarded_webhooks)

    @cached_property
    def cards(self) -> CardDeliverer:
        from shared.adapters.postgres.channels.cards import PostgresCards

        rows = PostgresCards(self.pool, self.audit_trail)
        return CardDeliverer(rows, self.approval_rows, self.links, card_channels(self.settings))

    @cached_property
    def threads(self) -> SessionThreads:
        return SessionThreads(self.session_rows, self.sessions)


def card_channels(settings: Settings) -> CardChannels:
    """The ways to people that this deployment has."""
    from shared.adapters.channels.slack import SlackChannel
    from shared.adapters.channels.teams import TeamsChannel

    channels: CardChannels = {}
    if settings.teams_webhook_url:
        channels[Channel.TEAMS] = TeamsChannel(settings.teams_webhook_url)
    if settings.slack_webhook_url:
        channels[Channel.SLACK] = SlackChannel(settings.slack_webhook_url)
    if settings.smtp_url and settings.mail_from:
        from shared.adapters.channels.mail import MailChannel

        server = MailServer.parse(settings.smtp_url)
        channels[Channel.EMAIL] = MailChannel(server, sender=settings.mail_from, recipients=settings.mail_to)
    return channels


def tracer_of(settings: Settings) -> tracing.Tracer | None:
    """The configured tracer: an OTLP collector, else Application Insights, else None."""
    if settings.otel_exporter_otlp_endpoint:
        from shared.adapters.telemetry.otlp_traces import otlp_tracer

        return otlp_tracer(settings)
    if settings.applicationinsights_connection_string:
        from shared.adapters.telemetry.insights_traces import insights_tracer

        return insights_tracer(settings)
    return None


@cache
def services() -> Services:
    """This process's services. Raises ConfigError when the settings are invalid."""
    everything = Services(load_settings())
    AllowedServers(everything.settings.mcp_allow)  # a wrong entry stops the start, here
    GuardedWebhooks(everything.settings.webhook_hosts)  # and here
    folder = agent_folder(everything.settings)
    take_tools_from(
        None if folder is None else folder.path,
        then=lambda tools: everything.tool_secrets.tell_missing({tool.name: tool.secrets for tool in tools}),
    )
    tracing.correlate_log()
    mask_log(everything.tool_mask)
    tracing.trace_with(tracer_of(everything.settings))
    metrics.admit_models([everything.settings.model_name, *everything.settings.registry.names])
    metrics.on_change = lambda: everything.metrics.wake()
    return everything
