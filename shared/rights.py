"""What the people of a session may do: one table of actions and access, which every check goes through.

Each route says which action it takes (`triggers/http/endpoints.py`), and the domain checks that action against the
caller's access to the session. Where a statement joins participants to decide who may read, it says READ: everyone in
the session may. Not here: who decides an approval (its policy does) and what takes a role (`principal.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, get_args

from shared.errors import ErrorCode, NotFound, no_such_session

type Access = Literal["owner", "write", "read"]
"""What somebody is in a session: its owner, or a participant who may write or only read."""


class Action(StrEnum):
    READ = "read"  # all that it holds, live events included; bookmark a message; copy the session
    POST = "post"  # messages and files; another answer to a message; the active branch
    CANCEL_OWN_TURN = "cancel_own_turn"
    CANCEL_ANY_TURN = "cancel_any_turn"  # also by posting with `interrupt`
    ANSWER = "answer"  # what tool calls of one's own turns ask
    CHANGE = "change"  # name, agent, configuration, tags, metadata; suspend, resume, end; checkpoints and recovery
    SHARE = "share"  # let others in, change what they may do, remove them
    LEAVE = "leave"
    ERASE = "erase"
    READ_AUDIT_TRAIL = "read_audit_trail"


RIGHTS: Mapping[Action, tuple[Access, ...]] = {
    Action.READ: ("owner", "write", "read"),
    Action.POST: ("owner", "write"),
    Action.CANCEL_OWN_TURN: ("owner", "write"),
    Action.CANCEL_ANY_TURN: ("owner",),
    Action.ANSWER: ("owner", "write"),
    Action.CHANGE: ("owner",),
    Action.SHARE: ("owner",),
    Action.LEAVE: ("write", "read"),
    Action.ERASE: ("owner",),
    Action.READ_AUDIT_TRAIL: ("owner",),
}

_NAMES: Mapping[Access, str] = {
    "owner": "the owner",
    "write": "participants who may write",
    "read": "participants who may read",
}


def may(access: Access, action: Action) -> bool:
    return access in RIGHTS[action]


def require(access: Access | None, action: Action) -> None:
    """access: None for a stranger. Raises NotFound; only people of the session are told that there is one."""
    if access is None:
        raise no_such_session()
    if not may(access, action):
        raise NotFound(ErrorCode.SESSION_NOT_FOUND, f"In this session, this is for {who(action)} only.")


def who(*actions: Action) -> str:
    """Everyone who may do one of these, in words."""
    every: tuple[Access, ...] = get_args(Access.__value__)
    allowed = [access for access in every if any(may(access, action) for action in actions)]
    return "everyone in the session" if len(allowed) == len(every) else " and ".join(_NAMES[name] for name in allowed)
