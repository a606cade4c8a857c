"""`./dev bench`: measures the speed of turns on the real servers with a fast fake model. See README.md beside this.

`main(arguments)` is the command; `load/generator.py` is the load generator, a separate process.

Not here: exact counts (`devtools/measure_turn.py`).
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; returns the exit status."""
    from devtools.bench.command import main as run  # takes seconds to import, which the load generator must not pay

    return run(arguments)
