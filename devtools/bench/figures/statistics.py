"""The statistics that the benchmark prints.

Invariant: an empty sample is an error, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0 to 1) of all samples do not exceed (nearest rank).

    Always a measured value. Raises ValueError for an empty sample or a share outside 0..1.
    """
    if not samples:
        raise ValueError("no samples")
    if not 0 <= share <= 1:
        raise ValueError(f"share {share} is not between 0 and 1")
    ranked = sorted(samples)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def median(samples: Sequence[float]) -> float:
    """The middle value; the mean of the two middle ones for an even count. Raises ValueError when empty."""
    if not samples:
        raise ValueError("no samples")
    ranked = sorted(samples)
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def spread(samples: Sequence[float]) -> float:
    """(largest - smallest) / median: the variation between rounds. 0 for one sample. Raises ValueError when empty."""
    centre = median(samples)
    return (max(samples) - min(samples)) / centre if centre else 0.0
