"""What runs a turn: its plan, its model steps, its tool calls, and what these wait for."""

from __future__ import annotations

from functools import cached_property

from shared.composition.agents import Agents
from shared.lanes import Lane, LaneLimits
from shared.principal import AuthMode
from shared.sessions.agents.handing_over import Handovers
from shared.sessions.approval import ToolApprovalManager
from shared.sessions.bridge import SessionAgentBridge
from shared.sessions.context.compaction import Compactor
from shared.sessions.executor import AgentExecutor
from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.attachments import AttachmentService
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.readers.analysis import Limits
from shared.sessions.files.stored_images import StoredImages
from shared.sessions.history.export import LAYOUTS
from shared.sessions.history.recall import HistorySearch
from shared.sessions.history.search import SearchService
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.subagents.background import BackgroundResults
from shared.sessions.subagents.service import Subagents
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.files import ToolFiles
from shared.sessions.tools.registry import ToolServices
from shared.sessions.tools.running.runner import ToolRunner, run_tool
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.turns.patience import Patience
from shared.sessions.waits.service import ToolWaits
from shared.sessions.waits.workflows import Workflows
from shared.signing import ApprovalLinks, CompletionTokens
from shared.work_pool import WorkPool


class Turns(Agents):
    """The services of a turn."""

    @cached_property
    def watch(self) -> CancelWatch:
        return CancelWatch(self.turn_rows.cancel_requested)

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
    def search(self) -> SearchService:
        from shared.adapters.postgres.history.search import PostgresSearch

        return SearchService(PostgresSearch(self.pool))

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
    def images(self) -> StoredImages:
        return StoredImages(self.attachment_rows, self.blobs)

    @cached_property
    def layouts(self) -> WorkPool:
        return WorkPool("exports", LAYOUTS)

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
    def tool_runner(self) -> ToolRunner:
        return run_tool

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
    def completions(self) -> CompletionTokens:
        return CompletionTokens(self.settings.approval_link_secret, self.settings.public_base_url)

    @cached_property
    def waits(self) -> ToolWaits:
        return ToolWaits(self.wait_rows, self.publisher, self.completions)

    @cached_property
    def workflows(self) -> Workflows:
        return Workflows(self.workflow_rows, self.wait_rows, self.tool_call_rows, self.publisher, mask=self.tool_mask)

    @cached_property
    def links(self) -> ApprovalLinks:
        return ApprovalLinks(self.settings.approval_link_secret, self.settings.public_base_url)

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
