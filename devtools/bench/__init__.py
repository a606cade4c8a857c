"""`./dev bench`: how fast turns are, measured on the real servers with a fast fake model. See README.md beside this.

`main(arguments)` is the command; `load.py` is the load generator, a process of its own.

Not here: exact counts (`devtools/measure_turn.py`).
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit status."""
    from devtools.bench.command import main as run  # costs seconds of imports that the load generator must not pay

    return run(arguments)
