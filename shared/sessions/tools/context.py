"""ToolContext: one call as its function sees it. The same for async and sync functions: nothing here waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from shared.errors import ToolRefused
from shared.sessions.tools.deferred import Completion, Resumed
from shared.sessions.tools.services import NO_SERVICES, ToolServices

type TellProgress = Callable[[str, float | None], None]
"""Called from any thread."""


class CallLink:
    """What a call and whoever runs it tell each other, from any thread."""

    def __init__(self, tell: TellProgress | None = None) -> None:
        self.tell = tell
        self.waits_for_thread = False
        self.complete: Callable[[], Completion] | None = None
        """Makes what its result may be posted with later; None: nobody takes it."""
        self.resumed: Resumed | None = None
        """The call has waited, and goes on."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """Of the process; None: it is not known, as in a test of a function."""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Say to the function that nobody waits for it any more."""
        self._stopped.set()
        self.tell = None

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a call runs: the user whose message began the turn."""

    user_id: str
    roles: frozenset[str]
    """As they were when the message was posted: `user`, and what the identity provider said, such as `approver` or a
    role of the organisation's own. Empty in turns that were posted before roles were stored."""
    session_id: str
    agent_id: str | None
    agent_version: int | None


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One call of a tool."""

    tool_call_id: str
    session_id: str
    turn_id: str
    user_id: str
    now: datetime
    """When the call began, as aware UTC; tools read no clock themselves."""
    services: ToolServices = field(default=NO_SERVICES, repr=False)
    roles: frozenset[str] = frozenset()
    agent_id: str | None = None
    agent_version: int | None = None
    secrets: frozenset[str] = frozenset()
    """Names that the tool declared."""
    link: CallLink = field(default_factory=CallLink, repr=False)

    @property
    def caller(self) -> Caller:
        return Caller(self.user_id, self.roles, self.session_id, self.agent_id, self.agent_version)

    @property
    def idempotency_key(self) -> str:
        """The same whenever this call is repeated, and of no other call. Pass it on to whatever has a side effect."""
        return self.tool_call_id

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: the turn was cancelled, or the call's time is over.

        An async function is cancelled by itself. A sync function that runs for long asks from time to time, and ends.
        """
        return self.link.is_stopped

    @property
    def completion(self) -> Completion:
        """Address and token for a tool that returns `Later`: give both to whoever will post the result.

        Raises ToolRefused where results are not taken.
        """
        if self.link.complete is None:
            raise ToolRefused("Results that come later are not taken here.")
        return self.link.complete()

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Tell the people of the session how far the call is. fraction: from 0 to 1.

        Returns at once. Told four times a second at most, the last word then; `text` is cut to 200 characters.
        """
        tell = self.link.tell
        if tell is not None:
            tell(text, fraction)

    def secret(self, name: str) -> str:
        """The value of the setting `TOOL_SECRET_<name>`.

        Raises ToolRefused for a name that the tool did not declare (`@tool(secrets=...)`), ToolFailed when it is not
        set.
        """
        if name not in self.secrets:
            raise ToolRefused(f"The tool did not declare the secret {name}.")
        return self.services.secrets.read(name)
