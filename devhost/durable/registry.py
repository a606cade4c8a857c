"""The app's durable functions by name.

Invariant: names are case-insensitive, as in the real extension; disabled functions do not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devhost.extensions.contract import Function, HostError

ORCHESTRATION_TRIGGER = "orchestrationTrigger"
ACTIVITY_TRIGGER = "activityTrigger"
ENTITY_TRIGGER = "entityTrigger"
TRIGGERS = frozenset({ORCHESTRATION_TRIGGER, ACTIVITY_TRIGGER, ENTITY_TRIGGER})

_NAME_KEY = {ORCHESTRATION_TRIGGER: "orchestration", ACTIVITY_TRIGGER: "activity", ENTITY_TRIGGER: "entityName"}


class Registry:
    """Raises HostError when two functions of one kind have the same durable name."""

    def __init__(self, functions: Iterable[Function]) -> None:
        self.orchestrators: dict[str, Function] = {}
        self.activities: dict[str, Function] = {}
        self.entities: dict[str, Function] = {}
        self._names: dict[str, list[str]] = {kind: [] for kind in TRIGGERS}
        tables: Mapping[str, dict[str, Function]] = {
            ORCHESTRATION_TRIGGER: self.orchestrators,
            ACTIVITY_TRIGGER: self.activities,
            ENTITY_TRIGGER: self.entities,
        }
        for function in functions:
            kind = function.trigger.type
            if kind not in TRIGGERS or function.disabled:
                continue
            name = str(function.trigger.raw.get(_NAME_KEY[kind]) or function.name)
            if name.startswith("@"):
                raise HostError(f"function {function.name}: durable names must not start with '@' ('{name}')")
            if name.casefold() in tables[kind]:
                raise HostError(f"function {function.name}: another function has the {kind} name '{name}'")
            tables[kind][name.casefold()] = function
            self._names[kind].append(name)

    def check_orchestrator(self, name: str) -> str | None:
        """None when the name is known, else the runtime's message."""
        known = name.casefold() in self.orchestrators
        return None if known else self._unknown(name, "an orchestrator", "orchestrator", ORCHESTRATION_TRIGGER)

    def check_activity(self, name: str) -> str | None:
        known = name.casefold() in self.activities
        return None if known else self._unknown(name, "an activity", "activity", ACTIVITY_TRIGGER)

    def check_entity(self, name: str) -> str | None:
        known = name.casefold() in self.entities
        return None if known else self._unknown(name, "an entity", "entity", ENTITY_TRIGGER)

    def _unknown(self, name: str, article: str, kind: str, trigger: str) -> str:
        names = ", ".join(f"'{known}'" for known in sorted(self._names[trigger]))
        info = (
            f"The following are the known {kind} functions: {names}."
            if names
            else f"No {kind} functions are registered."
        )
        return (
            f"The function '{name}' doesn't exist, is disabled, or is not {article} function. Additional info: {info}"
        )
