"""How the ids of this wire name what they stand for. They carry no authority: whoever sends one is checked as always.

A response is a turn from some point on, until it ends or waits for people: from its beginning, or from where one of its
calls was decided about. So the turn, the call and the session are the whole id, and nothing has to be stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from shared.ids import is_valid_id

_RESPONSE = re.compile(r"resp_([0-9a-f]{32})_(0|[0-9a-f]{32})_(.{1,64})")
_APPROVAL = "mcpr_"


@dataclass(frozen=True, slots=True)
class ResponseId:
    """Which part of which turn a response is."""

    session_id: str
    turn_id: str
    decided_call: str | None = None
    """The tool call whose decision it begins with; None: it begins with the turn."""

    def __str__(self) -> str:
        start = "0" if self.decided_call is None else UUID(self.decided_call).hex
        return f"resp_{UUID(self.turn_id).hex}_{start}_{self.session_id}"

    @classmethod
    def parse(cls, text: str) -> ResponseId | None:
        """None for what is no response id."""
        found = _RESPONSE.fullmatch(text)
        if found is None or not is_valid_id(found[3]):
            return None
        call = None if found[2] == "0" else str(UUID(hex=found[2]))
        return cls(found[3], str(UUID(hex=found[1])), call)


def approval_request_id(approval_id: str) -> str:
    return _APPROVAL + approval_id


def approval_of(request_id: str) -> str | None:
    """The approval that an `approval_request_id` names; None for what is none."""
    approval_id = request_id.removeprefix(_APPROVAL)
    return approval_id if approval_id != request_id and is_valid_id(approval_id) else None
