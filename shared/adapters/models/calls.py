"""Assembles tool calls from the pieces that chat-completion servers stream.

Servers differ: some send all parallel calls at `index: 0` with different ids, some send neither index nor id, some
repeat id and name in each piece, some send a new id with each piece, some send the arguments as an object. A piece
continues the call at its index, else the call with its id, else the last call. A piece with a name begins a new call if
the name differs, or if its text begins an object while the arguments of that call are complete.

Invariant: what is kept is bounded, and no piece is read twice. A call that is longer is kept without its arguments, and
the model is told.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from shared.adapters.models.text import as_text, joined, storable
from shared.errors import ErrorCode, ModelFailed
from shared.sessions.llm.conversation import MAX_ARGUMENT_CHARS, ModelToolCall
from shared.sessions.models import JsonObject

MAX_TOOL_CALLS = 64
MAX_CHARS = 2 * 1024 * 1024
"""Of all calls of one answer together, names and extra content included."""
MAX_ID_CHARS = 256

_MARKS = re.compile(r'[{}"\\]')
_BEGINS = re.compile(r"\s*\{")


class _Call:
    __slots__ = (
        "_depth",
        "_is_escaped",
        "_is_opened",
        "_is_quoted",
        "_scanned",
        "chars",
        "extra",
        "id",
        "index",
        "left_out_chars",
        "name",
        "pieces",
    )

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.extra: JsonObject | None = None
        self.left_out_chars = 0
        self.restart()

    def restart(self) -> None:
        """Discard the arguments."""
        self.pieces: list[str] = []
        self.chars = 0
        self._scanned = 0
        self._depth = 0
        self._is_opened = self._is_quoted = self._is_escaped = False

    def give_up(self, chars: int) -> None:
        """Keep none of the arguments, of which there were about so many."""
        self.left_out_chars = max(self.chars, chars)
        self.pieces.clear()

    def is_closed(self) -> bool:
        """Whether the arguments so far are a closed object. Each piece is scanned only once."""
        for piece in self.pieces[self._scanned :]:
            self._scan(piece)
        self._scanned = len(self.pieces)
        return self._is_opened and self._depth <= 0

    def is_whole(self) -> bool:
        try:
            return isinstance(orjson.loads("".join(self.pieces)), dict)
        except orjson.JSONDecodeError:
            return False

    def _scan(self, piece: str) -> None:
        ignored = 0 if self._is_escaped else -1
        """Position of the character after a backslash."""
        for mark in _MARKS.finditer(piece):
            at = mark.start()
            if at == ignored:
                continue
            sign = piece[at]
            if sign == "\\":
                ignored = at + 1
            elif sign == '"':
                self._is_quoted = not self._is_quoted
            elif not self._is_quoted:
                self._is_opened = True
                self._depth += 1 if sign == "{" else -1
        self._is_escaped = ignored == len(piece)


class ToolCalls:
    """The tool calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._chars = 0
        self.are_too_long = False
        """Whether the arguments of a call were left out."""

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, part: dict[str, Any]) -> None:
        """Add one element of a delta's `tool_calls`. Raises TypeError or ValueError for an unknown shape, ModelFailed
        beyond the bounds."""
        given = part.get("index")
        index = given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None
        call_id = as_text(part.get("id") or "")[:MAX_ID_CHARS]
        function = part.get("function") or {}
        name = as_text(function.get("name") or "")
        arguments = function.get("arguments")
        is_object = isinstance(arguments, (dict, list))
        text = orjson.dumps(arguments).decode() if is_object else as_text(arguments or "")
        call = self._continued(index, call_id, name, text) or self._begun(index)
        call.id = call.id or call_id
        if name and not call.name:
            call.name = name
            self._count(len(name))
        extra = part.get("extra_content")
        if isinstance(extra, dict):
            call.extra = storable(extra)
            self._count(len(orjson.dumps(call.extra)))
        if text:
            if is_object:
                call.restart()
            self._chars += len(text)
            call.chars += len(text)
            if call.left_out_chars or call.chars > MAX_ARGUMENT_CHARS or self._chars > MAX_CHARS:
                call.give_up(call.chars)
                self.are_too_long = True
            else:
                call.pieces.append(text)

    def give_up_last(self, chars: int = MAX_ARGUMENT_CHARS) -> bool:
        """Leave out the arguments of the last call, of about so many characters, if they are not complete.

        False: there is no call."""
        if not self._calls:
            return False
        if not self._calls[-1].is_whole():
            self._calls[-1].give_up(chars)
            self.are_too_long = True
        return True

    def end(self, *, is_cut: bool) -> tuple[list[ModelToolCall], dict[str, JsonObject]]:
        """The calls in order, each with a unique id, and by id the extra content that servers want back with them.

        is_cut: the answer was not complete, so a last call without complete arguments is cut too.
        """
        # In order of their indexes if each call has a unique one, else in order of arrival.
        calls = self._calls
        if all(call.index is not None for call in calls) and len(self._at) == len(calls):
            calls = sorted(calls, key=lambda call: call.index or 0)
        taken: set[str] = set()
        found: list[ModelToolCall] = []
        extras: dict[str, JsonObject] = {}
        for place, call in enumerate(calls):
            call_id = joined([call.id]).replace("\x00", "")
            while not call_id or call_id in taken:
                # Some servers send no ids or the same id for all calls, but each result must name its own call.
                call_id = f"call_{place}_{len(taken)}" if not call_id else f"{call_id}_{place}"
            taken.add(call_id)
            arguments = joined(call.pieces).replace("\x00", "")
            name = joined([call.name]).replace("\x00", "")
            cut = is_cut and call is self._calls[-1] and not call.is_whole()
            found.append(ModelToolCall(call_id, name, arguments, is_cut=cut, left_out_chars=call.left_out_chars))
            if call.extra is not None:
                extras[call_id] = call.extra
        return found, extras

    def _begun(self, index: int | None) -> _Call:
        if len(self._calls) >= MAX_TOOL_CALLS:
            raise ModelFailed(ErrorCode.LLM_ERROR, "The model made too many tool calls at once.")
        call = _Call(index)
        self._calls.append(call)
        if index is not None:
            self._at[index] = call
        return call

    def _continued(self, index: int | None, call_id: str, name: str, text: str) -> _Call | None:
        """The call that a piece continues; None: it begins a new call."""
        call = self._meant(index, call_id, name)
        if call is None or not name or not call.name:
            # A new call begins with its name; a server that sends an id without a name makes a new id per piece.
            return call
        if name != call.name:
            return None
        begins_object = _BEGINS.match(text) is not None
        if call_id and call.id and call_id != call.id:
            # A new call, unless this server makes a new id per piece and repeats the name too.
            return call if call.pieces and not begins_object and not call.is_closed() else None
        return None if begins_object and call.is_closed() else call

    def _meant(self, index: int | None, call_id: str, name: str) -> _Call | None:
        """The existing call that a piece refers to, if any."""
        if index is not None:
            return self._at.get(index)
        last = self._calls[-1] if self._calls else None
        if not call_id:
            return last
        same = next((call for call in reversed(self._calls) if call.id == call_id), None)
        if same is not None:
            return same
        # An unknown id: with a name it is a new call, without one the server makes a new id per piece.
        return last if not name or (last is not None and last.name == name) else None

    def _count(self, chars: int) -> None:
        self._chars += chars
        if self._chars > MAX_CHARS:
            raise ModelFailed(ErrorCode.LLM_ERROR, "The model's tool calls are too long.")
