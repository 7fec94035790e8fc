"""From repeated times to figures. All times in µs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

FLOOR_US = 0.3  # no kernel is shorter: a node of a graph that does nothing takes about as long


def midmean(times: Sequence[float]) -> float:
    """Mean of the middle half.

    As deaf to outliers as a median is here, but it averages over the steps of the GPU's clock,
    where a median of a few distinct values could only be one of them.
    """
    ordered = np.sort(np.asarray(times, float))
    quarter = len(ordered) // 4
    return float(ordered[quarter : len(ordered) - quarter].mean())


def spread(times: Sequence[float]) -> float:
    """Interquartile range: of single measurements, not of their centre."""
    low, high = np.percentile(np.asarray(times, float), [25, 75])
    return float(high - low)


def centre_error(times: Sequence[float]) -> float:
    """Standard error of the centre of normally distributed times: that of a median, 0.93 IQR/√n."""
    return 0.93 * spread(times) / math.sqrt(len(times))


def with_floor(times: Sequence[float], total: float, floor: float = FLOOR_US) -> list[float]:
    """`times` scaled so that they sum to `total`, none below `floor`.

    Differences of measured times may come out tiny or negative where the kernel is shorter than
    the noise. Those are set to the floor; the others give what that adds, each in proportion to
    its length, so that the sum is the model's. Order is kept.
    """
    total = max(total, floor * len(times))
    fixed = [t < 1e-6 for t in times]
    while True:
        rest = sum(t for t, low in zip(times, fixed, strict=True) if not low)
        left = total - floor * sum(fixed)
        scale = left / rest if rest > 0 else 0.0
        low = [f or t * scale < floor for t, f in zip(times, fixed, strict=True)]
        if low == fixed:
            break
        fixed = low
    if all(fixed):
        return [total / len(times)] * len(times)
    return [floor if f else t * scale for t, f in zip(times, fixed, strict=True)]


def saturation(time_us: Mapping[float, float], slower: float = 1.1) -> float | None:
    """Most co-resident blocks per SM at which a kernel is still less than 10% slower than at first.

    `time_us` is the time of blocks per SM; None where only one number of them was measured.
    """
    if len(time_us) < 2:
        return None
    counts = sorted(time_us)
    reached = counts[0]
    for count in counts:
        if time_us[count] > slower * time_us[counts[0]]:
            break
        reached = count
    return reached
