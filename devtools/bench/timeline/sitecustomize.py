"""Python imports this first in each process that has this folder in its PYTHONPATH."""

from devtools.bench.timeline.moments import note_moments

note_moments()
