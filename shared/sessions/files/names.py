"""File names: for display, and for the `Content-Disposition` header.

Invariant: a name never contains a path, control or direction-changing characters, or anything that ends a header.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

MAX_NAME_CHARS = 200
NAMELESS = "file"
_MAX_SUFFIX_CHARS = 20

_RESERVED = re.compile(r'[<>:"|?*]')
_SPACES = re.compile(r"\s+")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 ._()-]")


def display_name(claimed: str | None) -> str:
    """The last path part of the sender's name, cleaned and shortened; `file` if nothing is left."""
    last = re.split(r"[/\\]", claimed or "")[-1]
    composed = unicodedata.normalize("NFC", last)
    # Categories C*: controls, format characters (some change the text direction), surrogates, unassigned.
    shown = "".join(char if unicodedata.category(char)[0] != "C" else " " for char in composed)
    name = _SPACES.sub(" ", _RESERVED.sub("_", shown)).strip(" .")
    if len(name) > MAX_NAME_CHARS:
        stem, dot, suffix = name.rpartition(".")
        if not stem or len(suffix) > _MAX_SUFFIX_CHARS:
            stem, dot, suffix = name, "", ""
        name = stem[: MAX_NAME_CHARS - len(dot + suffix)].rstrip(" .") + dot + suffix
    return name or NAMELESS


def content_disposition(name: str, *, inline: bool = False) -> str:
    """The header for a name from `display_name` (RFC 6266): ASCII for old clients, UTF-8 for all others."""
    plain = _NOT_PLAIN.sub("_", name)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
