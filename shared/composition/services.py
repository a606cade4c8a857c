"""The composition root: where the domain meets its adapters, once per process, lazily.

Nothing here runs at import, and nothing connects until it is used; `services()` is what triggers and activities call.
"""

from __future__ import annotations

from functools import cache, cached_property

from shared import tracing
from shared.adapters.http.posting import GuardedWebhooks
from shared.adapters.http.webhook import ApprovalNotifier
from shared.adapters.mcp.allowed import AllowedServers
from shared.composition.package import APP, packaged_at
from shared.composition.stores import Stores
from shared.health import Check, HealthChecks
from shared.lanes import Lane, LaneLimits
from shared.principal import AuthMode
from shared.sessions.agents.agent import KnownModels
from shared.sessions.agents.below import AgentPins
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.agents.file_versions import AgentFolder, FileAgents
from shared.sessions.agents.handing_over import Handovers
from shared.sessions.approval import ToolApprovalManager
from shared.sessions.approvals.retelling import Retelling
from shared.sessions.audit.trail import ChainedAudit
from shared.sessions.audit.verification import AuditVerification
from shared.sessions.bridge import SessionAgentBridge
from shared.sessions.cache import SessionCache
from shared.sessions.channels.carding import CardDeliverer
from shared.sessions.channels.cards import CardChannels
from shared.sessions.channels.delivering import WebhookDeliverer
from shared.sessions.channels.mail_server import MailServer
from shared.sessions.channels.secrets import WebhookSecrets
from shared.sessions.channels.webhooks import WebhookService
from shared.sessions.context.compaction import Compactor
from shared.sessions.doors.reader import DoorReader
from shared.sessions.doors.snapshot import TurnSnapshots
from shared.sessions.doors.threads import SessionThreads
from shared.sessions.events import SessionEventPublisher
from shared.sessions.executor import AgentExecutor
from shared.sessions.features.pins import PinService
from shared.sessions.features.statistics import StatisticsService
from shared.sessions.features.tags import TagService
from shared.sessions.features.templates import TemplateService
from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.attachments import AttachmentService
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.loose import LooseBlobs
from shared.sessions.files.readers.analysis import Limits
from shared.sessions.files.stored_images import StoredImages
from shared.sessions.history.bookmarks import BookmarkService
from shared.sessions.history.export import LAYOUTS, ExportService
from shared.sessions.history.manager import HistoryManager
from shared.sessions.history.recall import HistorySearch
from shared.sessions.history.search import SearchBackfill, SearchService
from shared.sessions.life.branches import BranchService
from shared.sessions.life.edits import EditService
from shared.sessions.life.erasure import SessionErasure
from shared.sessions.life.forks import ForkService
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.life.retention import RetentionPolicy, SessionRetention
from shared.sessions.life.titling import TitleModel, Titling
from shared.sessions.life.trials import AgentTrials
from shared.sessions.limits.budgets import DailyLimits
from shared.sessions.limits.requests import RatePolicy, RequestLimiter
from shared.sessions.live.audience import Audience
from shared.sessions.live.here import Here
from shared.sessions.live.open_streams import OpenStreams
from shared.sessions.live.presence import Presence
from shared.sessions.live.reading import ReaderMemory
from shared.sessions.live.subscriptions import SubscriptionService
from shared.sessions.llm.probe import ModelProbe
from shared.sessions.llm.windows import Windows
from shared.sessions.mcp.pinning import Pinning
from shared.sessions.mcp.reading import McpServers
from shared.sessions.measuring.sharing import SharedMetrics
from shared.sessions.metrics import metrics
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.records.approval_policy import Channel
from shared.sessions.recovery import SessionRecoveryManager
from shared.sessions.service import SessionService
from shared.sessions.streaming import LONGEST_S, StreamingHandler
from shared.sessions.subagents.background import BackgroundResults
from shared.sessions.subagents.service import Subagents
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.files import ToolFiles
from shared.sessions.tools.registry import ToolServices
from shared.sessions.tools.registry import take_from as take_tools_from
from shared.sessions.tools.running.masking import Mask, mask_log
from shared.sessions.tools.running.runner import ToolRunner, run_tool
from shared.sessions.tools.running.secrets import SettingSecrets
from shared.sessions.tools.running.threads import ToolThreads
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.turns.patience import Patience
from shared.sessions.turns.waiting import TurnWaiter
from shared.sessions.unattended.running import ScheduleRunner
from shared.sessions.unattended.schedules import ScheduleService
from shared.sessions.unattended.triggers import TriggerService
from shared.sessions.unattended.webhooks import HookSecrets
from shared.sessions.waits.service import ToolWaits
from shared.sessions.waits.workflows import Workflows
from shared.settings import RateLimitFail, Settings, load_settings, load_tool_secrets
from shared.signing import ApprovalLinks, CompletionTokens
from shared.work_pool import WorkPool

_MODEL_PROBE_SECONDS = 15.0


class Services(Stores):
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
    def windows(self) -> Windows:
        return Windows()

    @cached_property
    def model_probe(self) -> ModelProbe:
        settings = self.settings
        model = settings.model_name
        return ModelProbe(
            self.model,
            model=model,
            api=settings.api_of(model),
            registry=settings.registry,
            warm_up=lambda: self.model.warm_up(),
            told_window=lambda: self._told_window(model),
        )

    async def _told_window(self, model: str) -> None:
        """Ask the server for the default model's context window where neither settings nor registry name it."""
        settings = self.settings
        if settings.model_context_tokens is None and settings.registry.find(model).context_tokens is None:
            limit = await self.model.context_tokens(model)
            if limit is not None:
                self.windows.note(model, limit)

    @cached_property
    def session_cache(self) -> SessionCache:
        from shared.adapters.redis.sessions import RedisSessionEntries

        return SessionCache(RedisSessionEntries(self.redis, self.redis_guard), self.session_rows.entry)

    @cached_property
    def publisher(self) -> SessionEventPublisher:
        from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions

        audience = Audience(
            PostgresSubscriptions(self.pool).listeners, lambda group, user_id: self.signalr.is_member(group, user_id)
        )
        return SessionEventPublisher(
            self.event_log, self.session_rows, self.presence, audience, callers=self.child_rows
        )

    @cached_property
    def presence(self) -> Presence:
        from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions
        from shared.adapters.redis.presence import RedisPresenceMarks

        return Presence(
            RedisPresenceMarks(self.redis, self.redis_guard),
            lambda group: self.signalr.is_empty(group),
            PostgresSubscriptions(self.pool).on_record,
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
    def watch(self) -> CancelWatch:
        return CancelWatch(self.turn_rows.cancel_requested)

    @cached_property
    def links(self) -> ApprovalLinks:
        return ApprovalLinks(self.settings.approval_link_secret, self.settings.public_base_url)

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
    def planner(self) -> TurnPlanner:
        return TurnPlanner(
            self.session_rows,
            default_model=self.settings.model_name,
            limits=self.limits,
            known=self.known_models,
            ready=self.agents.files.ready,
            below=self.agent_pins,
        )

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
    def known_models(self) -> KnownModels:
        settings = self.settings
        return KnownModels(settings.registry, settings.model_context_tokens, settings.model_reasoning_effort)

    @cached_property
    def limits(self) -> DailyLimits:
        return DailyLimits(self.settings.user_daily_tokens or None, self.settings.user_daily_cost_usd or None)

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
    def agents(self) -> AgentCatalog:
        from shared.adapters.postgres.agents import PostgresAgents

        rows, pinning = PostgresAgents(self.pool), Pinning(self.mcp)
        return AgentCatalog(rows, FileAgents(agent_folder(self.settings), rows, pinning), pinning)

    @cached_property
    def mcp(self) -> McpServers:
        from shared.adapters.azure.entra import token_for
        from shared.adapters.mcp.client import McpClient

        return McpClient(AllowedServers(self.settings.mcp_allow), secret=self.tool_secrets.read, token=token_for)

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
    def subscriptions(self) -> SubscriptionService:
        from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions

        return SubscriptionService(PostgresSubscriptions(self.pool), self.presence)

    @cached_property
    def here(self) -> Here:
        from shared.adapters.redis.here import RedisHere

        return Here(self.session_cache.get, RedisHere(self.redis, self.redis_guard))

    @cached_property
    def metrics(self) -> SharedMetrics:
        from shared.adapters.redis.metrics import RedisMetrics

        return SharedMetrics(metrics, RedisMetrics(self.redis, self.redis_guard))

    @cached_property
    def images(self) -> StoredImages:
        return StoredImages(self.attachment_rows, self.blobs)

    @cached_property
    def loose_blobs(self) -> LooseBlobs:
        from shared.adapters.postgres.attachments import PostgresLooseBlobs

        return LooseBlobs(PostgresLooseBlobs(self.pool), self.blobs)

    @cached_property
    def attachments(self) -> AttachmentService:
        max_bytes = self.settings.attachment_max_bytes
        return AttachmentService(
            self.session_rows,
            self.attachment_rows,
            self.blobs,
            FileAnalyzer(Limits(max_bytes=max_bytes)),
            max_bytes=max_bytes,
        )

    @cached_property
    def waiter(self) -> TurnWaiter:
        return TurnWaiter(self.event_log, self.turn_rows)

    @cached_property
    def history(self) -> HistoryManager:
        return HistoryManager(self.session_cache, self.turn_rows)

    @cached_property
    def exports(self) -> ExportService:
        return ExportService(self.session_rows, self.history, FileGenerator(), self.layouts)

    @cached_property
    def layouts(self) -> WorkPool:
        return WorkPool("exports", LAYOUTS)

    @cached_property
    def search(self) -> SearchService:
        from shared.adapters.postgres.history.search import PostgresSearch

        return SearchService(PostgresSearch(self.pool))

    @cached_property
    def search_backfill(self) -> SearchBackfill:
        from shared.adapters.postgres.history.backfill import PostgresSearchBackfill

        return PostgresSearchBackfill(self.pool)

    @cached_property
    def bookmarks(self) -> BookmarkService:
        from shared.adapters.postgres.history.bookmarks import PostgresBookmarks

        return BookmarkService(self.session_cache, PostgresBookmarks(self.pool))

    @cached_property
    def bridge(self) -> SessionAgentBridge:
        registry = self.settings.registry
        executor = AgentExecutor(
            self.model,
            images=self.images,
            limits=self.limits,
            registry=registry,
            api_of=self.settings.api_of,
            windows=self.windows,
            compactor=Compactor(self.model, self.step_rows, registry),
            reservations=self.step_rows,
        )
        settings = self.settings
        patience = Patience(settings.llm_first_byte_seconds, settings.llm_step_seconds, settings.llm_retry_tokens)
        return SessionAgentBridge(
            *(self.step_rows, executor, self.publisher, self.sender, self.watch),
            patience=patience,
            lane=self.model_lane,
        )

    @cached_property
    def model_lane(self) -> Lane:
        settings = self.settings
        limits = LaneLimits(
            settings.model_lane,
            settings.model_lane_per_user,
            settings.model_lane_per_model,
            settings.lane_wait_seconds,
        )
        return Lane("answers", limits)

    @cached_property
    def tool_lane(self) -> Lane:
        settings = self.settings
        at_once = settings.tool_lane
        # Tools have no model.
        return Lane("tool calls", LaneLimits(at_once, settings.tool_lane_per_user, at_once, settings.lane_wait_seconds))

    @cached_property
    def tool_calls(self) -> ToolCallHandler:
        from shared.adapters.http.fetch import GuardedHttpFetcher
        from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle

        fetcher = GuardedHttpFetcher(self.settings.tools_http_allow)
        tool_services = ToolServices(
            http=fetcher,
            history=HistorySearch(self.search, PostgresLifecycle(self.pool).is_private),
            files=ToolFiles(self.attachment_rows, self.attachments, FileGenerator(), self.layouts),
            secrets=self.tool_secrets,
            threads=self.tool_threads,
            mcp=self.mcp,
        )
        return ToolCallHandler(
            self.tool_call_rows,
            self.publisher,
            tool_services,
            self.watch,
            lane=self.tool_lane,
            sender=self.sender,
            mask=self.tool_mask,
            waits=self.wait_rows,
            completions=self.completions,
            run=self.tool_runner,
            agents=self.subagents,
            handovers=self.handovers,
        )

    @cached_property
    def subagents(self) -> Subagents:
        return Subagents(
            self.child_rows,
            self.agents,
            self.publisher,
            default_model=self.settings.model_name,
            known=self.known_models,
            background=self.background_rows,
        )

    @cached_property
    def background(self) -> BackgroundResults:
        return BackgroundResults(self.background_rows, self.child_rows, self.publisher, self.tool_mask)

    @cached_property
    def handovers(self) -> Handovers:
        return Handovers(self.session_rows, self.agents, self.agent_pins, self.settings.model_name, self.known_models)

    @cached_property
    def agent_pins(self) -> AgentPins:
        return AgentPins(self.agents.newest)

    @cached_property
    def tool_runner(self) -> ToolRunner:
        return run_tool

    @cached_property
    def completions(self) -> CompletionTokens:
        return CompletionTokens(self.settings.approval_link_secret, self.settings.public_base_url)

    @cached_property
    def waits(self) -> ToolWaits:
        return ToolWaits(self.wait_rows, self.publisher, self.completions)

    @cached_property
    def workflows(self) -> Workflows:
        return Workflows(self.workflow_rows, self.wait_rows, self.tool_call_rows, self.publisher, mask=self.tool_mask)

    @cached_property
    def tool_secrets(self) -> SettingSecrets:
        return SettingSecrets(load_tool_secrets())

    @cached_property
    def tool_mask(self) -> Mask:
        return self.tool_secrets.mask()

    @cached_property
    def tool_threads(self) -> ToolThreads:
        threads = self.settings.tool_threads
        return ToolThreads(threads, per_user=-(-threads * 2 // 3))

    @cached_property
    def approvals(self) -> ToolApprovalManager:
        return ToolApprovalManager(
            self.approval_rows,
            self.tool_call_rows,
            self.publisher,
            self.session_cache,
            self.links,
            self.audit_trail,
            print_links=self.settings.auth_mode is AuthMode.DEV,
        )

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
    def streaming(self) -> StreamingHandler:
        return StreamingHandler(self.event_log, self.turn_rows, self.streams)

    @cached_property
    def doors(self) -> DoorReader:
        return DoorReader(self.streaming, self.approval_rows, self.turn_rows)

    @cached_property
    def snapshots(self) -> TurnSnapshots:
        return TurnSnapshots(self.turn_rows, self.approval_rows)

    @cached_property
    def threads(self) -> SessionThreads:
        return SessionThreads(self.session_rows, self.sessions)

    @cached_property
    def streams(self) -> OpenStreams:
        from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions

        rows = PostgresSubscriptions(self.pool)
        return OpenStreams(
            rows.readable, self.readers, per_user=self.settings.streams_per_user or None, longest_s=LONGEST_S
        )

    @cached_property
    def readers(self) -> ReaderMemory:
        return ReaderMemory()


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


def agent_folder(settings: Settings) -> AgentFolder | None:
    """The folder with what is not Parley's, if there is one."""
    folder = APP / settings.agents_folder
    return AgentFolder(folder, packaged_at(APP)) if folder.is_dir() else None


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
