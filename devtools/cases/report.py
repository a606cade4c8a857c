"""What a run of cases says: a summary for people, and JUnit's XML for CI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ElementTree, SubElement  # written, never read

from devtools.cases.comparing import Change

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one case. error: why it could not be played at all."""

    name: str
    file: str
    seconds: float
    changes: Sequence[Change] = ()
    notes: Sequence[str] = ()
    error: str | None = None
    is_strict: bool = False

    @property
    def failing(self) -> list[Change]:
        return [change for change in self.changes if self.is_strict or not change.is_note]

    @property
    def is_same(self) -> bool:
        return self.error is None and not self.failing


@dataclass(frozen=True, slots=True)
class Summary:
    outcomes: Sequence[Outcome]

    def text(self) -> str:
        lines: list[str] = []
        for outcome in self.outcomes:
            mark = "same   " if outcome.is_same else "error  " if outcome.error else "CHANGED"
            lines.append(f"{mark} {outcome.name}  ({outcome.file})")
            if outcome.error is not None:
                lines.append(f"          {outcome.error}")
            failing = set(outcome.failing)
            lines += [f"        {'!' if change in failing else '~'} {change}" for change in outcome.changes]
            lines += [f"        . {note}" for note in outcome.notes]
        same = sum(outcome.is_same for outcome in self.outcomes)
        lines.append(f"replay: {same} of {len(self.outcomes)} cases go as they were recorded")
        return "\n".join(lines)

    def junit(self) -> ElementTree[Element]:
        errors = sum(outcome.error is not None for outcome in self.outcomes)
        failed = sum(not outcome.is_same for outcome in self.outcomes) - errors
        seconds = sum(outcome.seconds for outcome in self.outcomes)
        counts = {"tests": len(self.outcomes), "failures": failed, "errors": errors, "skipped": 0}
        suite = Element(
            "testsuite", {"name": "replay", "time": f"{seconds:.3f}"} | {k: str(v) for k, v in counts.items()}
        )
        for outcome in self.outcomes:
            case = SubElement(
                suite,
                "testcase",
                {
                    "classname": "replay",
                    "name": _xml(outcome.name),
                    "file": outcome.file,
                    "time": f"{outcome.seconds:.3f}",
                },
            )
            if outcome.error is not None:
                SubElement(case, "error", {"message": _xml(outcome.error)})
            elif outcome.failing:
                kinds = ", ".join(dict.fromkeys(change.kind.value for change in outcome.failing))
                failure = SubElement(case, "failure", {"message": f"changed: {kinds}"})
                failure.text = _xml("\n".join(map(str, outcome.failing)))
            notes = [str(change) for change in outcome.changes if change not in outcome.failing]
            if notes or outcome.notes:
                SubElement(case, "system-out").text = _xml("\n".join([*notes, *outcome.notes]))
        root = Element("testsuites", {k: str(v) for k, v in counts.items()})
        root.append(suite)
        return ElementTree(root)


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
