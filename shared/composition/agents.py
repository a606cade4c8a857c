"""Agents, and the models, servers and secrets that they and their tools use."""

from __future__ import annotations

from functools import cached_property

from shared.adapters.mcp.allowed import AllowedServers
from shared.composition.live import Live
from shared.composition.package import APP, packaged_at
from shared.sessions.agents.agent import KnownModels
from shared.sessions.agents.below import AgentPins
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.agents.file_versions import AgentFolder, FileAgents
from shared.sessions.limits.budgets import DailyLimits
from shared.sessions.llm.probe import ModelProbe
from shared.sessions.llm.windows import Windows
from shared.sessions.mcp.pinning import Pinning
from shared.sessions.mcp.reading import McpServers
from shared.sessions.tools.running.masking import Mask
from shared.sessions.tools.running.secrets import SettingSecrets
from shared.sessions.tools.running.threads import ToolThreads
from shared.settings import Settings, load_tool_secrets


class Agents(Live):
    """Agents with what they need."""

    @cached_property
    def windows(self) -> Windows:
        return Windows()

    @cached_property
    def known_models(self) -> KnownModels:
        settings = self.settings
        return KnownModels(settings.registry, settings.model_context_tokens, settings.model_reasoning_effort)

    @cached_property
    def limits(self) -> DailyLimits:
        return DailyLimits(self.settings.user_daily_tokens or None, self.settings.user_daily_cost_usd or None)

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
    def mcp(self) -> McpServers:
        from shared.adapters.azure.entra import token_for
        from shared.adapters.mcp.client import McpClient

        return McpClient(AllowedServers(self.settings.mcp_allow), secret=self.tool_secrets.read, token=token_for)

    @cached_property
    def agents(self) -> AgentCatalog:
        from shared.adapters.postgres.agents import PostgresAgents

        rows, pinning = PostgresAgents(self.pool), Pinning(self.mcp)
        return AgentCatalog(rows, FileAgents(agent_folder(self.settings), rows, pinning), pinning)

    @cached_property
    def agent_pins(self) -> AgentPins:
        return AgentPins(self.agents.newest)


def agent_folder(settings: Settings) -> AgentFolder | None:
    """The folder with what is not Parley's, if there is one."""
    folder = APP / settings.agents_folder
    return AgentFolder(folder, packaged_at(APP)) if folder.is_dir() else None
