"""A recording's threshold from a few reviewed beats: which beats to ask about, and what the answers say.

How likely a beat is normal is taken to fall as its score rises, and otherwise to be what reviewers said of beats that
scored about the same: a weighted isotonic regression (Ayer et al. 1955) over the recording's beats in the order of
their scores. Beats that nobody reviewed take part with what is usual at their score, and so little weight that all of
them together count as `PRIOR_REVIEWS` reviews. The threshold is where the normal beats expected above it are the wanted
share of all normal beats expected.

Beats to ask about are those that would tell most: the stretch of scores with most doubt in it is halved, again and
again, down to where twice the wanted share of normal beats lies above. Scores and answers are all that is used, not
the order in which they came. The constants were chosen on DS1 patients left out of training; docs/benchmark.md has
what it gains.
"""

import heapq
import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

#: Reviewed beats that a recording must have before its threshold is taken from them.
LEAST_REVIEWS = 10
#: What is usual at a score counts, for a whole recording, as so many reviewed beats.
PRIOR_REVIEWS = 4.0
#: A beat with this score is as likely normal as not, and how fast that changes (the log odds fall by so much a decade).
EVEN_SCORE, ODDS_SLOPE = 2.0, 4.0
#: Beats are asked about down to where so many times the wanted share of normal beats lies above,
REACH = 2.0
#: and at least among so many of the highest scores.
LEAST_REACH = 10

Answers = npt.NDArray[np.int8]


def reviewed_threshold(score: npt.NDArray[np.float32], reviewed: Answers, false_alarm_rate: float) -> float:
    """The score that a share `false_alarm_rate` of a recording's normal beats reaches, as far as reviews tell.

    Args:
        score: float32 (n,), -log10 tail probabilities, in any order; n at least 1.
        reviewed: int8 (n,): 1 where reviewers called the beat normal, -1 where anomalous, 0 where nobody said.
        false_alarm_rate: in (0, 1).

    Returns:
        A float32 number: a beat is flagged when its score is at or above it.

    Raises:
        ValueError: there are no beats, or the rate is not between 0 and 1.
    """
    order = _ranked(score, false_alarm_rate)
    flagged = _reach(_expected(score[order], reviewed[order])[1], false_alarm_rate)
    lowest = score[order[-1]]
    return float(np.nextafter(score[order[flagged]], np.float32(np.inf)) if flagged < len(order) else lowest)


def beats_to_review(
    score: npt.NDArray[np.float32],
    reviewed: Answers,
    asked: npt.NDArray[np.bool_],
    false_alarm_rate: float,
    n: int,
) -> npt.NDArray[np.int64]:
    """Which beats tell most about a recording's threshold.

    Args:
        score, reviewed, false_alarm_rate: as for `reviewed_threshold`.
        asked: bool (n_beats,), beats that are not to be asked about again, whatever was said.
        n: how many at most. A few at a time: the next depend on what is said of these.

    Returns:
        int64 (at most n,), places in `score`, those that tell most first.

    Raises:
        ValueError: there are no beats, or the rate is not between 0 and 1.
    """
    order = _ranked(score, false_alarm_rate)
    asked = asked[order]
    chance, expected = _expected(score[order], reviewed[order])
    stop = min(max(_reach(expected, REACH * false_alarm_rate), LEAST_REACH), len(order))
    doubt = np.where(asked, 0.0, np.sqrt(chance * (1 - chance) + 1e-4))  # of no beat is there none at all
    until = np.append(0.0, np.cumsum(doubt))
    ends = [-1, *np.flatnonzero(asked[:stop]).tolist(), stop]
    # Stretches between beats that were asked about, both ends excluded; the one with most doubt comes first.
    stretches = [(until[a + 1] - until[b], a, b) for a, b in pairwise(ends) if b - a > 1]
    heapq.heapify(stretches)
    chosen: list[int] = []
    while stretches and len(chosen) < n:
        _, a, b = heapq.heappop(stretches)
        middle = int(np.searchsorted(until, (until[a + 1] + until[b]) / 2)) - 1
        middle = min(max(middle, a + 1), b - 1)
        chosen.append(middle)
        for one in ((a, middle), (middle, b)):
            if one[1] - one[0] > 1:
                heapq.heappush(stretches, (until[one[0] + 1] - until[one[1]], *one))
    return order[np.array(chosen, np.int64)]


def _ranked(score: npt.NDArray[np.float32], rate: float) -> npt.NDArray[np.int64]:
    """Places of the beats, the highest score first."""
    if not 0 < rate < 1:
        raise ValueError(f"false_alarm_rate must lie between 0 and 1, not {rate}")
    if not len(score):
        raise ValueError("a recording without beats has no threshold")
    return np.argsort(-score, kind="stable")


def _expected(score: npt.NDArray[np.float32], reviewed: Answers) -> tuple[npt.NDArray[np.float64], ...]:
    """How likely each beat is normal, by score alone, and with what was said of the beat itself: (n,) each.

    Args:
        score: the highest first.
    """
    known, normal = reviewed != 0, reviewed > 0
    usual = 1 / (1 + np.exp(ODDS_SLOPE * np.clip(score.astype(np.float64) - EVEN_SCORE, -100, 100)))
    chance = isotonic_regression(
        np.where(known, normal, usual), weights=np.where(known, 1.0, PRIOR_REVIEWS / len(score))
    ).x
    return chance, np.where(known, normal, chance)


def _reach(expected: npt.NDArray[np.float64], rate: float) -> int:
    """How many of the highest scores hold at most `rate` of the normal beats expected."""
    total = math.fsum(expected)
    return int(np.searchsorted(np.cumsum(expected), rate * total, side="right"))
