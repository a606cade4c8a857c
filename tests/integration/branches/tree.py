"""What the branches of a session should read: a model of lists, without turn numbers, steps or SQL."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Said:
    text: str
    user_message_id: str | None = None


@dataclass
class ModelBranch:
    parent: int | None = None
    shared: int = 0
    """How many of the parent's own messages it reads, behind what the parent itself reads of its ancestors."""
    own: list[Said] = field(default_factory=list)


@dataclass
class Model:
    """What a session should be."""

    branches: list[ModelBranch] = field(default_factory=lambda: [ModelBranch()])
    active: int = 0
    checkpoints: list[tuple[int, int, list[str]]] = field(default_factory=list)
    """Branch, how many of its own messages, and all that was read there."""

    def note(self) -> None:
        """A checkpoint, here and now."""
        self.checkpoints.append((self.active, len(self.branches[self.active].own), self.read(self.active)))

    def recover(self, branch: int, own: int) -> None:
        """Go on from there: on a branch that ends there, on an empty one that forks there, or on a new one."""
        while own == 0 and self.branches[branch].parent is not None:
            branch, own = self.branches[branch].parent or 0, self.branches[branch].shared
        if own == len(self.branches[branch].own):
            self.active = branch
            return
        empty = [
            number
            for number, found in enumerate(self.branches)
            if not found.own and (found.parent, found.shared) == (branch, own)
        ]
        if empty:
            self.active = empty[-1]
        else:
            self.fork(branch, own)

    def read(self, branch: int, own: int | None = None) -> list[str]:
        """The texts of a branch, with the first `own` of its own messages (all by default)."""
        here = self.branches[branch]
        before = [] if here.parent is None else self.read(here.parent, here.shared)
        return before + [said.text for said in here.own[:own]]

    def questions(self) -> list[tuple[int, int]]:
        """(branch, place among its own) of every user message."""
        return [
            (number, place)
            for number, branch in enumerate(self.branches)
            for place, said in enumerate(branch.own)
            if said.user_message_id is not None
        ]

    def fork(self, parent: int, shared: int) -> None:
        self.branches.append(ModelBranch(parent, shared))
        self.active = len(self.branches) - 1

    def copy(self, branch: int, own: int | None = None) -> Model:
        """A fork of what is read there: one branch, without checkpoints."""
        return Model([ModelBranch(own=self.sayings(branch, own))])

    def sayings(self, branch: int, own: int | None = None) -> list[Said]:
        """As `read`, with what is known of each; forks and branches share none of these objects."""
        here = self.branches[branch]
        before = [] if here.parent is None else self.sayings(here.parent, here.shared)
        return before + [Said(said.text, said.user_message_id) for said in here.own[:own]]
