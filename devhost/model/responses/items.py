"""The input items of a Responses request, checked one by one and reduced to the relevant fields.

Invariant: a parsed item has all fields that its type requires and no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devhost.model.conversation import ToolCall
from devhost.model.errors import (
    Json,
    RequestRefused,
    choice_at,
    missing,
    names,
    object_at,
    refuse_unknown,
    text_at,
    wrong_type,
    wrong_value,
)
from devhost.model.responses.sealed import Sealed, unseal

MAX_CALL_ID_CHARS = 64
_ROLES = frozenset({"user", "assistant", "system", "developer"})
_STATUSES = frozenset({"in_progress", "completed", "incomplete"})
_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]+")
_INPUT_PARTS = frozenset({"input_text", "input_image", "input_file"})
_OUTPUT_PARTS = frozenset({"output_text", "refusal"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "message": names("type role content status id phase"),
    "function_call": names("type id call_id name arguments status caller namespace async"),
    "function_call_output": names("type id call_id output status caller name namespace"),
    "reasoning": names("type id summary content encrypted_content status"),
    "input_text": names("type text prompt_cache_breakpoint"),
    "input_image": names("type detail file_id image_url prompt_cache_breakpoint"),
    "input_file": names("type detail file_data file_id file_url filename prompt_cache_breakpoint"),
    "output_text": names("type text annotations logprobs"),
    "refusal": names("type refusal"),
    "summary_text": names("type text"),
    "reasoning_text": names("type text"),
}
_ID_STARTS = {"message": "msg", "function_call": "fc", "reasoning": "rs"}


@dataclass(frozen=True, slots=True)
class Content:
    texts: tuple[str, ...]
    attachments: int = 0
    """Number of parts that are not text."""


@dataclass(frozen=True, slots=True)
class MessageItem:
    role: str
    content: Content


@dataclass(frozen=True, slots=True)
class CallItem:
    call: ToolCall


@dataclass(frozen=True, slots=True)
class OutputItem:
    call_id: str
    content: Content


@dataclass(frozen=True, slots=True)
class ReasoningItem:
    item_id: str
    sealed: Sealed


type Item = MessageItem | CallItem | OutputItem | ReasoningItem


def read_item(raw: Json, where: str) -> Item:
    """Parse one item of `input`. Raises RequestRefused (400; 404 when it refers to stored state)."""
    item = object_at(raw, where)
    kind = item.get("type") or ("message" if "role" in item else None)
    if kind == "item_reference":
        raise _not_kept(text_at(item.get("id"), f"{where}.id"))
    if not isinstance(kind, str) or kind not in ("message", "function_call", "function_call_output", "reasoning"):
        if kind is None:
            raise missing(f"{where}.type")
        raise wrong_value(f"{where}.type", kind, ("message", "function_call", "function_call_output", "reasoning"))
    refuse_unknown(item, _FIELDS[kind], where)
    _check_id(item, kind, where)
    if item.get("status") is not None:
        choice_at(item["status"], f"{where}.status", _STATUSES)
    if kind == "message":
        return _message(item, where)
    if kind == "function_call":
        return _call(item, where)
    if kind == "function_call_output":
        return _output(item, where)
    return _reasoning(item, where)


def _check_id(item: Mapping[str, Json], kind: str, where: str) -> None:
    found, start = item.get("id"), _ID_STARTS.get(kind)
    if found is None or start is None or (kind == "message" and item.get("role") != "assistant"):
        return
    if not text_at(found, f"{where}.id").startswith(start):
        raise RequestRefused(
            f"Invalid '{where}.id': '{found}'. Expected an ID that begins with '{start}'.",
            param=f"{where}.id",
            code="invalid_value",
        )


def _message(item: Mapping[str, Json], where: str) -> MessageItem:
    role = choice_at(item.get("role"), f"{where}.role", _ROLES)
    parts = _OUTPUT_PARTS if role == "assistant" else _INPUT_PARTS
    return MessageItem(role, _content(item.get("content"), f"{where}.content", parts))


def _call(item: Mapping[str, Json], where: str) -> CallItem:
    name = text_at(item.get("name"), f"{where}.name")
    if not _FUNCTION_NAME.fullmatch(name):
        raise RequestRefused(
            f"Invalid '{where}.name': string does not match pattern. Expected a string that matches the pattern"
            " '^[a-zA-Z0-9_-]+$'.",
            param=f"{where}.name",
            code="invalid_value",
        )
    arguments = text_at(item.get("arguments"), f"{where}.arguments")
    item_id = item.get("id")
    return CallItem(ToolCall(_call_id(item, where), name, arguments, item_id if isinstance(item_id, str) else ""))


def _output(item: Mapping[str, Json], where: str) -> OutputItem:
    return OutputItem(_call_id(item, where), _content(item.get("output"), f"{where}.output", _INPUT_PARTS))


def _call_id(item: Mapping[str, Json], where: str) -> str:
    call_id = text_at(item.get("call_id"), f"{where}.call_id")
    if not 1 <= len(call_id) <= MAX_CALL_ID_CHARS:
        raise RequestRefused(
            f"Invalid '{where}.call_id': expected a string of 1 to {MAX_CALL_ID_CHARS} characters, but got one of"
            f" {len(call_id)}.",
            param=f"{where}.call_id",
            code="string_above_max_length" if call_id else "empty_string",
        )
    return call_id


def _reasoning(item: Mapping[str, Json], where: str) -> ReasoningItem:
    item_id = text_at(item.get("id"), f"{where}.id")
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        parts = item.get(name)
        if parts is None and name == "content":
            continue
        if parts is None:
            raise missing(f"{where}.{name}")
        for i, part in enumerate(_parts(parts, f"{where}.{name}")):
            _check_part(part, f"{where}.{name}[{i}]", frozenset({kind}))
    encrypted = item.get("encrypted_content")
    if encrypted is None:
        raise _not_kept(item_id)
    sealed = unseal(text_at(encrypted, f"{where}.encrypted_content"))
    if sealed is None or sealed.item_id != item_id:
        raise RequestRefused(
            f"The encrypted content for item {item_id} could not be verified. Reason: Encrypted content could not be"
            " decrypted or parsed.",
            code="invalid_encrypted_content",
        )
    return ReasoningItem(item_id, sealed)


def _not_kept(item_id: str) -> RequestRefused:
    return RequestRefused(
        f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false. Try again with"
        " `store` set to true, or remove this item from your input.",
        status=404,
        param="input",
    )


def _content(raw: Json, where: str, allowed: frozenset[str]) -> Content:
    if isinstance(raw, str):
        return Content((raw,))
    if raw is None:
        raise missing(where)
    texts, attachments = [], 0
    for i, item in enumerate(_parts(raw, where)):
        part = _check_part(item, f"{where}[{i}]", allowed)
        text = part.get("text", part.get("refusal"))
        if isinstance(text, str):
            texts.append(text)
        else:
            attachments += 1
    return Content(tuple(texts), attachments)


def _parts(raw: Json, where: str) -> Sequence[Json]:
    if not isinstance(raw, list):
        raise wrong_type(where, "one of a string or array of objects", raw)
    return raw


def _check_part(raw: Json, where: str, allowed: frozenset[str]) -> Mapping[str, Json]:
    part = object_at(raw, where)
    kind = choice_at(part.get("type"), where, allowed)
    refuse_unknown(part, _FIELDS[kind], where)
    if kind == "input_image":
        _check_image(part, where)
    elif kind == "input_file":
        _check_file(part, where)
    else:
        name = "refusal" if kind == "refusal" else "text"
        text_at(part.get(name), f"{where}.{name}")
    return part


def _check_image(part: Mapping[str, Json], where: str) -> None:
    if part.get("detail") is not None:
        choice_at(part["detail"], f"{where}.detail", ("auto", "low", "high", "original"))
    if part.get("file_id") is not None:
        raise _no_files(f"{where}.file_id")
    url = part.get("image_url")
    if url is None:
        raise missing(f"{where}.image_url")
    if not isinstance(url, str):
        raise wrong_type(f"{where}.image_url", "an image URL", url)
    if not url.startswith(("https://", "http://", "data:image/")):
        raise RequestRefused(
            f"Invalid '{where}.image_url'. Expected a valid URL, but got a value with an invalid format.",
            param=f"{where}.image_url",
            code="invalid_value",
        )


def _check_file(part: Mapping[str, Json], where: str) -> None:
    if part.get("file_id") is not None:
        raise _no_files(f"{where}.file_id")
    if part.get("file_url") is not None:
        text_at(part["file_url"], f"{where}.file_url")
        return
    text_at(part.get("file_data"), f"{where}.file_data")
    text_at(part.get("filename"), f"{where}.filename")


def _no_files(where: str) -> RequestRefused:
    return RequestRefused("The offline model keeps no uploaded files: send the data itself.", param=where)
