"""Shares with their intervals, from counts of reviewed beats."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from warehouse.store.feedback_queries import Judged

_Z: Final = 1.959963984540054  # 95 %, two-sided
_DRAWS: Final = 20_000


@dataclass(frozen=True)
class Estimate:
    """A share and its 95 % interval; all None when nothing was counted."""

    value: float | None
    low: float | None
    high: float | None


_NOTHING: Final = Estimate(value=None, low=None, high=None)


def precision_of(confirmed: int, rejected: int) -> Estimate:
    """confirmed / (confirmed + rejected) with Wilson's score interval (Wilson 1927)."""
    n = confirmed + rejected
    if n == 0:
        return _NOTHING
    share = confirmed / n
    center = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Estimate(value=share, low=max(0.0, center - half), high=min(1.0, center + half))


def recall_of(judged: Judged) -> Estimate:
    """The share of anomalous beats that were flagged, from reviews of flagged beats and a random sample of the others.

    Flagged beats times their precision are the anomalous ones found; unflagged beats times the share that the sample
    shows anomalous are those missed. The interval is of the posterior of both shares under Jeffreys' prior, drawn with
    a fixed seed; it reaches to 1 where the sample has no anomalous beat, and to 0 where no flagged one was confirmed
    (Brown, Cai and DasGupta 2001): else the estimate itself would lie outside. It takes the reviewed flagged beats as a
    random sample of the flagged ones, which reviewing by score is not: precision is then overestimated, and recall
    with it.
    """
    reviewed, sampled = judged.confirmed + judged.rejected, judged.missed + judged.passed
    if reviewed == 0 or sampled == 0:
        return _NOTHING
    random = np.random.default_rng(7)
    precision = random.beta(judged.confirmed + 0.5, judged.rejected + 0.5, _DRAWS)
    missed = random.beta(judged.missed + 0.5, judged.passed + 0.5, _DRAWS)
    found = judged.flagged * precision
    recall = found / np.maximum(found + judged.unflagged * missed, 1e-12)
    low, high = np.quantile(recall, [0.025, 0.975])
    low, high = 0.0 if judged.confirmed == 0 else low, 1.0 if judged.missed == 0 else high
    point_found = judged.flagged * judged.confirmed / reviewed
    point_all = point_found + judged.unflagged * judged.missed / sampled
    value = point_found / point_all if point_all else None
    return Estimate(value=value, low=float(low), high=float(high))
