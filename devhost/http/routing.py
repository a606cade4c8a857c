"""ASP.NET route templates: parse, match, compare.

Invariant: of the functions whose template and method fit a path, the one whose name comes first answers, as in Azure,
however specific the others are. `overlaps` finds such routes. A template that this parser does not understand is
refused when the app is indexed, not when a request arrives.

Source: requests recorded on Azure Functions host 4.1037; ASP.NET's `TemplateMatcher` and `PathNormalizer`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from devhost.extensions.contract import HostError
from devhost.http.constraints import constraint

Check = Callable[[str], bool]
_ENCODED_SLASH = re.compile("(%2f)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One `{...}` of a template."""

    name: str
    checks: tuple[Check, ...]
    optional: bool
    catch_all: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled route template."""

    text: str
    pattern: re.Pattern[str]
    parameters: tuple[Parameter, ...]
    segments: tuple[str | Parameter | None, ...]
    """Lower-cased literals, whole parameters, and None for a mix of both."""
    first: str | None
    """Lower-cased first segment when it is literal."""

    def match(self, path: str) -> dict[str, str] | None:
        """Route values of `path` (without a slash at its ends), or None. Unmatched optional parameters are absent."""
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        values: dict[str, str] = {}
        for index, parameter in enumerate(self.parameters):
            value = found[f"p{index}"]
            if value is None or value == "":
                if parameter.default is not None:
                    values[parameter.name] = parameter.default
                continue
            if not all(check(value) for check in parameter.checks):
                return None
            values[parameter.name] = value
        return values


@dataclass(frozen=True, slots=True)
class Route[T]:
    """A template, its methods (None = all) and the `target` that they lead to."""

    template: Template
    methods: frozenset[str] | None
    target: T


class RouteTable[T]:
    """All HTTP functions of an app."""

    def __init__(self, routes: Iterable[Route[T]]) -> None:
        """routes: in the order of their functions' names."""
        ordered = list(routes)
        literals = {route.template.first for route in ordered if route.template.first is not None}
        self._floating = [route for route in ordered if route.template.first is None]
        self._by_first: Mapping[str, list[Route[T]]] = {
            first: [route for route in ordered if route.template.first in (first, None)] for first in literals
        }

    def match(self, method: str, path: str) -> tuple[T, dict[str, str]] | None:
        """The target for a decoded path and its route values; None when no template and method fit."""
        trimmed = path.removeprefix("/").removesuffix("/")
        first = trimmed.partition("/")[0].lower()
        for route in self._by_first.get(first, self._floating):
            if route.methods is not None and method not in route.methods:
                continue
            values = route.template.match(trimmed)
            if values is not None:
                return route.target, values
        return None


def request_path(path: str, raw_path: bytes | None) -> str:
    """The path to match: percent-decoded, except that an encoded slash stays as it is, and without `.` and `..`."""
    if raw_path is not None and b"%2" in raw_path and b"%2f" in raw_path.lower():
        text = raw_path.decode("latin-1").partition("?")[0]
        path = "".join(part if part.lower() == "%2f" else unquote(part) for part in _ENCODED_SLASH.split(text))
    return _without_dots(path) if "/." in path else path


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4, as Kestrel does it before routing."""
    kept: list[str] = []
    parts = path.split("/")
    for part in parts[1:]:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


def overlaps[T](first: Route[T], second: Route[T]) -> bool:
    """Whether some request fits both routes. May say so of constraints that no text fits."""
    if first.methods is not None and second.methods is not None and not first.methods & second.methods:
        return False
    return _meet(first.template.segments, second.template.segments)


def _meet(one: Sequence[str | Parameter | None], other: Sequence[str | Parameter | None]) -> bool:
    if not one and not other:
        return True
    for rest in (one, other):
        if rest and isinstance(rest[0], Parameter) and rest[0].catch_all:
            return True
    if not one or not other:
        left = (one or other)[0]
        return isinstance(left, Parameter) and (left.optional or left.default is not None)
    return _segments_meet(one[0], other[0]) and _meet(one[1:], other[1:])


def _segments_meet(one: str | Parameter | None, other: str | Parameter | None) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    for literal, parameter in ((one, other), (other, one)):
        if isinstance(literal, str) and isinstance(parameter, Parameter):
            return all(check(literal) for check in parameter.checks)
    return True


def parse_template(text: str, where: str) -> Template:
    """Compile a template; `where` (function name) opens the message of a HostError."""
    parameters: list[Parameter] = []
    pattern = ""
    whole_segments: list[str | Parameter | None] = []
    first: str | None = None
    segments = _split(text.strip("/"), where)
    for position, segment in enumerate(segments):
        pieces = _pieces(segment, where)
        if any(isinstance(piece, str) for piece in pieces) and len(pieces) == 1:
            literal = str(pieces[0])
            first = literal.lower() if position == 0 else first
            pattern += ("/" if pattern or position else "") + re.escape(literal)
            whole_segments.append(literal.lower())
            continue
        body = ""
        for piece in pieces:
            if isinstance(piece, str):
                body += re.escape(piece)
                continue
            if any(piece.name.lower() == other.name.lower() for other in parameters):
                raise HostError(f"{where}: route {text!r} names {{{piece.name}}} twice")
            if len(pieces) > 1 and (piece.optional or piece.catch_all or piece.default is not None):
                raise HostError(f"{where}: route {text!r}: {{{piece.name}}} must be a whole segment")
            if piece.catch_all and position != len(segments) - 1:
                raise HostError(f"{where}: route {text!r}: {{*{piece.name}}} must come last")
            body += f"(?P<p{len(parameters)}>{'(?:[^/].*)?' if piece.catch_all else '[^/]+'})"
            parameters.append(piece)
        whole = pieces[0] if len(pieces) == 1 and isinstance(pieces[0], Parameter) else None
        slash = "/" if position else ""
        may_miss = whole is not None and (whole.optional or whole.catch_all or whole.default is not None)
        pattern += f"(?:{slash}{body})?" if may_miss else slash + body
        whole_segments.append(whole)
    return Template(text, re.compile(pattern, re.IGNORECASE), tuple(parameters), tuple(whole_segments), first)


def _split(text: str, where: str) -> list[str]:
    """Segments; a slash inside braces (a regex) does not split."""
    if not text:
        return []
    segments, depth, current = [], 0, ""
    index = 0
    while index < len(text):
        char = text[index]
        if char in "{}" and text[index : index + 2] == char * 2 and depth:
            current += char * 2
            index += 2
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth not in (0, 1):
            raise HostError(f"{where}: route {text!r} has unbalanced braces")
        if char == "/" and not depth:
            segments.append(current)
            current = ""
        else:
            current += char
        index += 1
    segments.append(current)
    if depth or not all(segments):
        raise HostError(f"{where}: route {text!r} has unbalanced braces or an empty segment")
    return segments


def _pieces(segment: str, where: str) -> list[str | Parameter]:
    """Literal texts and parameters of one segment, in order."""
    pieces: list[str | Parameter] = []
    literal, index = "", 0
    while index < len(segment):
        if segment[index] != "{":
            literal += segment[index]
            index += 1
            continue
        end = index + 1
        while segment[end] != "}" or segment[end : end + 2] == "}}":
            end += 2 if segment[end : end + 2] in ("}}", "{{") else 1
        if literal:
            pieces.append(literal)
            literal = ""
        elif pieces:
            raise HostError(f"{where}: two parameters of a route need text between them: {segment!r}")
        pieces.append(_parameter(segment[index + 1 : end], where))
        index = end + 1
    if literal:
        pieces.append(literal)
    return pieces


def _parameter(text: str, where: str) -> Parameter:
    match = re.match(r"(?P<star>\*{0,2})(?P<name>[A-Za-z_][A-Za-z0-9_\-.]*)", text)
    if match is None:
        raise HostError(f"{where}: {{{text}}} is not a route parameter")
    rest = text[match.end() :]
    optional = rest.endswith("?")
    rest = rest[:-1] if optional else rest
    constraints, default = _split_default(rest)
    checks = [constraint(part, where) for part in _split_constraints(constraints, where)]
    return Parameter(match["name"], tuple(checks), optional, bool(match["star"]), default)


def _split_default(text: str) -> tuple[str, str | None]:
    depth = 0
    for index, char in enumerate(text):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "=" and not depth:
            return text[:index], text[index + 1 :]
    return text, None


def _split_constraints(text: str, where: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == ":" and not depth:
            parts.append(current)
            current = ""
        else:
            current += char
    parts.append(current)
    if parts[0] or not all(parts[1:]):
        raise HostError(f"{where}: cannot read the route constraint {text!r}")
    return parts[1:]
