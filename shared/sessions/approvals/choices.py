"""How much a turn tells the outside by choosing which address to fetch, counted in bits. Pure functions.

An address that stands in a user's message or on a page holds nothing of the model's, but which of them it fetches, in
which order, how often and how many does. Once untrusted input and private data have met, each fetch of a turn is
charged, whether it runs beside others, fails or is a repeat; what is beyond `TURN_BITS` needs a person's approval.

The charge is the length of a word in a prefix-free code: log2(1 + n) bits for the next of the n addresses that the
turn's own message names, 2 + log2(f) for any other of the f forms of these, 3 + log2(m) for any of the m forms of other
addresses. The shares of the code space (at most 1/2, 1/4, 1/8) leave 1/8 for "no more". So a turn can make at most
2**TURN_BITS different sequences of fetches without a person. The next address costs more in a message that names many:
that may be pasted text, with addresses that somebody else lined up. Not counted: when a fetch happens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from shared.sessions.approvals.containment import written_calls, written_outside
from shared.sessions.records.steps import ContextMessage
from shared.sessions.tools.registry import fetched_address

TURN_BITS = 8.0
"""One character: enough for three addresses in the order in which the user named them, or for one of 16 on a page."""

# Ends at characters that end a URL in text, Markdown, HTML or JSON.
_ADDRESS = re.compile(r"https?://[^\s\"'<>\\`{|}^]+", re.IGNORECASE)
_PUNCTUATION = ".,;:!?)]*_"
_BARE_HOST = re.compile(r"https?://[^/?]+", re.IGNORECASE)


class KnownAddresses:
    """The addresses that a user or a page wrote, where a model read them. An address in an answer, a file or the
    history does not count: the model may have written it there.

    Contains an address if it is a copy of one, apart from the fragment, punctuation behind it and a slash at its end;
    each form that is taken counts as a choice.
    """

    def __init__(self, context: Sequence[ContextMessage]) -> None:
        """context: what the model had read, newest first."""
        self._context = context

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and (_sent(address) in self._named_forms or _sent(address) in self._other_forms)

    @cached_property
    def named(self) -> tuple[str, ...]:
        """Those that the turn's own message names, in its order, each once. None if somebody else wrote it."""
        question = next((message for message in self._context if message.role == "user"), None)
        if question is None or question.by_other:
            return ()
        return tuple(dict.fromkeys(_sent(found.rstrip(_PUNCTUATION)) for found in _found(question.content)))

    @cached_property
    def _named_forms(self) -> frozenset[str]:
        if not self.named:
            return frozenset()
        question = next(message for message in self._context if message.role == "user")
        return frozenset(form for found in _found(question.content) for form in _forms(found))

    @cached_property
    def _other_forms(self) -> frozenset[str]:
        found = {found for text in written_outside(self._context) for found in _found(text)}
        return frozenset(form for address in found for form in _forms(address)) - self._named_forms

    def bits(self, address: str, fetched: Iterable[str]) -> float:
        """The charge for fetching one of them after `fetched`, the turn's earlier fetches. Raises KeyError for others.

        fetched: addresses as the calls wrote them.
        """
        sent, before = _sent(address), {_sent(earlier) for earlier in fetched}
        if sent == next((name for name in self.named if name not in before), None):
            return math.log2(1 + len(self.named))
        if sent in self._named_forms:
            return 2.0 + math.log2(len(self._named_forms))
        if sent in self._other_forms:
            return 3.0 + math.log2(len(self._other_forms))
        raise KeyError(address)


class FetchCount:
    """The fetches of a turn, call by call in the order in which its model wrote them."""

    def __init__(self, context: Sequence[ContextMessage], spent_bits: float = 0.0) -> None:
        """spent_bits: charged in the turn's earlier steps."""
        self.known = KnownAddresses(context)
        self._context = context
        self._spent_bits = spent_bits

    @cached_property
    def _fetched(self) -> list[str]:
        return list(_fetched_before(self._context))

    def bits(self, address: str) -> float:
        """What fetching it would be charged now. Raises KeyError for an address that nobody wrote."""
        return self.known.bits(address, self._fetched)

    def fits(self, bits: float) -> bool:
        """Whether the turn may be charged that much without a person."""
        return self._spent_bits + bits <= TURN_BITS

    def add(self, address: str, bits: float) -> None:
        """Count a call. bits: 0 when a person decides it, or nothing had met."""
        self._fetched.append(address)
        self._spent_bits += bits


def _fetched_before(context: Sequence[ContextMessage]) -> Iterator[str]:
    """What the turn's earlier steps fetched."""
    for message in context:
        if message.role == "user":
            return
        if message.role == "assistant":
            for tool, arguments in written_calls(message):
                address = fetched_address(tool, arguments)
                if address is not None:
                    yield address


def _found(text: str) -> Iterator[str]:
    return (found.partition("#")[0] for found in _ADDRESS.findall(text))


def _forms(found: str) -> set[str]:
    bare = {found, found.rstrip(_PUNCTUATION)}
    return {_sent(form) for text in bare for form in (text, text.removesuffix("/"), text.removesuffix("/") + "/")}


def _sent(address: str) -> str:
    """The address without what no server sees of it."""
    address = address.partition("#")[0]
    return f"{address}/" if _BARE_HOST.fullmatch(address) else address
