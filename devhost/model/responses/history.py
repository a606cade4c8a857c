"""Converts items to messages and checks the pairing rules of the Responses API.

Invariant: in the result of `read_history`, every call has its output before the next message, every output has its
call, and every reasoning item is followed by the item that it led to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from devhost.model.conversation import Message, ToolCall
from devhost.model.errors import RequestRefused
from devhost.model.responses.items import CallItem, Item, MessageItem, OutputItem, ReasoningItem


def read_history(items: Iterable[Item]) -> tuple[Message, ...]:
    """The messages of a conversation. The items of one answer become one message. Raises RequestRefused."""
    history = _History()
    for item in items:
        history.add(item)
    return history.finish()


@dataclass(slots=True)
class _Draft:
    """An answer of the model that is still incomplete."""

    texts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    """Reasoning before the first call."""
    accounted: set[str] = field(default_factory=set)
    """Ids of the calls that this reasoning led to."""

    def message(self) -> Message:
        covered = all(call.id in self.accounted for call in self.calls)
        return Message(
            "assistant",
            "\n".join(self.texts),
            words=self.texts[-1] if self.texts else "",
            tool_calls=tuple(self.calls),
            thoughts="".join(self.thoughts) if self.thoughts and covered else None,
        )


class _History:
    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._draft: _Draft | None = None
        self._calls: set[str] = set()
        self._unanswered: dict[str, None] = {}
        self._reasoning: ReasoningItem | None = None
        """Reasoning whose following item is still missing."""
        self._reasoning_ids: set[str] = set()

    def add(self, item: Item) -> None:
        match item:
            case ReasoningItem():
                self._add_reasoning(item)
            case CallItem(call):
                self._add_call(call)
            case OutputItem():
                self._add_output(item)
            case MessageItem(role="assistant"):
                self._add_answer(item)
            case MessageItem(role, content):
                self._refuse_open_ends()
                self._close_draft()
                texts = content.texts
                words = texts[-1] if texts else ""
                self._messages.append(Message(role, "\n".join(texts), content.attachments, words))

    def finish(self) -> tuple[Message, ...]:
        self._refuse_open_ends()
        self._close_draft()
        return tuple(self._messages)

    def _add_reasoning(self, item: ReasoningItem) -> None:
        if item.item_id in self._reasoning_ids:
            raise RequestRefused(
                f"Duplicate item found with id {item.item_id}. Remove duplicate items from your input and try again.",
                param="input",
            )
        self._reasoning_ids.add(item.item_id)
        self._refuse_unanswered_after_outputs()
        draft = self._answer()
        if not draft.calls:
            draft.thoughts.append(item.sealed.text)
            draft.accounted.update(item.sealed.call_ids)
        self._reasoning = item

    def _add_call(self, call: ToolCall) -> None:
        made = self._reasoning.sealed.call_ids if self._reasoning else ()
        if self._reasoning and call.id not in made:
            raise _without_following_item(self._reasoning)
        self._reasoning = None
        self._answer().calls.append(call)
        self._calls.add(call.id)
        self._unanswered[call.id] = None

    def _add_answer(self, item: MessageItem) -> None:
        if self._draft is not None and self._draft.texts:
            self._close_draft()  # a second text is a second answer
        self._refuse_unanswered_after_outputs()
        self._reasoning = None
        self._answer().texts += item.content.texts

    def _add_output(self, item: OutputItem) -> None:
        if self._reasoning:
            raise _without_following_item(self._reasoning)
        if item.call_id not in self._calls:
            raise RequestRefused(
                f"No tool call found for function call output with call_id {item.call_id}.", param="input"
            )
        if item.call_id not in self._unanswered:
            raise RequestRefused(f"More than one tool output found for function call {item.call_id}.", param="input")
        del self._unanswered[item.call_id]
        self._close_draft()
        texts = item.content.texts
        self._messages.append(
            Message("tool", "\n".join(texts), item.content.attachments, texts[-1] if texts else "", (), item.call_id)
        )

    def _answer(self) -> _Draft:
        if self._draft is None:
            self._draft = _Draft()
        return self._draft

    def _close_draft(self) -> None:
        if self._draft is not None:
            self._messages.append(self._draft.message())
            self._draft = None

    def _refuse_unanswered_after_outputs(self) -> None:
        # Calls need no output while the answer that made them is incomplete.
        if self._draft is None:
            self._refuse_unanswered()

    def _refuse_open_ends(self) -> None:
        if self._reasoning:
            raise _without_following_item(self._reasoning)
        self._refuse_unanswered()

    def _refuse_unanswered(self) -> None:
        call_id = next(iter(self._unanswered), None)
        if call_id is not None:
            raise RequestRefused(f"No tool output found for function call {call_id}.", param="input")


def _without_following_item(item: ReasoningItem) -> RequestRefused:
    return RequestRefused(
        f"Item '{item.item_id}' of type 'reasoning' was provided without its required following item.", param="input"
    )
