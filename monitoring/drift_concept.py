"""Concept drift: is the model less right than it was, as those who review its results see it?

Reviews of the last hours (`drift.look_back_h`) beside all earlier ones of the same version. Beats of one recording are
judged alike, so the recording is what counts: shares and means are ratio estimates over recordings, and their variance
is that between recordings (Cochran 1977, Sampling Techniques, chapter 6).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from scipy import stats

from monitoring.drift_features import CONCEPT, SCORE_CAP, FloatArray
from monitoring.drift_tests import GRADUAL, SITE, Finding

PRECISION: Final = "precision"  # share of reviewed flagged beats that were confirmed
SCORE_OF_NORMALS: Final = "score_of_normals"  # of beats reviewed as normal: the model's error on them, as its score
LEAST_RECORDINGS: Final = 5  # in each period
_LEAST_SD = {PRECISION: 0.05, SCORE_OF_NORMALS: 0.02}


@dataclass(frozen=True)
class Judged:
    """Reviewed beats of a period, a number each.

    Attributes:
        recording: int64 (n,).
        value: (n,), 1 confirmed and 0 rejected, or the score.
    """

    recording: Any
    value: FloatArray

    def by_recording(self) -> tuple[FloatArray, FloatArray]:
        """Sum and number of values a recording."""
        _, which = np.unique(self.recording, return_inverse=True)
        n = np.bincount(which).astype(np.float64)
        return np.asarray(np.bincount(which, self.value), np.float64), n


def concept_candidates(
    rows: Sequence[Mapping[str, Any]], *, site: str, recent_since: datetime, least_reviews: int, gaps: dict[str, int]
) -> Iterator[Finding]:
    """What would be found: one candidate a question, with its p-value; `detect` decides which are findings.

    Args:
        rows: reviewed beats as `Results.judged_beats` gives them, oldest first.
        recent_since: reviews from then on are compared with those before.
        least_reviews: in each of the two periods.
        gaps: counts what cannot be asked.
    """
    for feature in (PRECISION, SCORE_OF_NORMALS):
        chosen = [row for row in rows if _counts(row, feature)]
        recent = [row for row in chosen if row["reviewed_at"] >= recent_since]
        earlier = [row for row in chosen if row["reviewed_at"] < recent_since]
        periods = _judged(earlier, feature), _judged(recent, feature)
        enough = all(len(p.value) >= least_reviews and len(np.unique(p.recording)) >= LEAST_RECORDINGS for p in periods)
        if not enough:
            if recent:
                gaps["too_few_reviews"] = gaps.get("too_few_reviews", 0) + 1
            continue
        yield _candidate(feature, site, *periods, recent)


def _counts(row: Mapping[str, Any], feature: str) -> bool:
    if feature == PRECISION:
        return bool(row["flagged"])
    return bool(row["verdict"] == "reject")


def _judged(rows: Sequence[Mapping[str, Any]], feature: str) -> Judged:
    recording = np.array([row["recording_id"] for row in rows], np.int64)
    if feature == PRECISION:
        return Judged(recording, np.array([row["verdict"] == "confirm" for row in rows], np.float64))
    return Judged(recording, np.minimum(np.array([row["score"] for row in rows], np.float64), SCORE_CAP))


def _ratio(judged: Judged) -> tuple[float, float, int]:
    """Mean over beats, its variance as recordings differ, and how many recordings there are."""
    total, n = judged.by_recording()
    mean, k = total.sum() / n.sum(), len(n)
    variance = ((total - mean * n) ** 2).sum() / n.sum() ** 2 * k / (k - 1)
    return float(mean), float(variance), k


def _candidate(feature: str, site: str, earlier: Judged, recent: Judged, rows: Sequence[Mapping[str, Any]]) -> Finding:
    (before, v0, k0), (after, v1, k1) = _ratio(earlier), _ratio(recent)
    least = _LEAST_SD[feature] ** 2 * (1 / len(earlier.value) + 1 / len(recent.value))
    difference, variance = after - before, max(v0 + v1, least)
    p = 2 * stats.t.sf(abs(difference) / np.sqrt(variance), min(k0, k1) - 1)
    spread = max(float(np.concatenate([earlier.value, recent.value]).std()), _LEAST_SD[feature])
    total, n = recent.by_recording()
    numbers = np.unique(recent.recording)
    makers = numbers[np.argsort(-np.sign(difference or 1.0) * (total / n - before))]
    worse = "confirm" if (feature == PRECISION) == (difference > 0) else "reject"
    examples = [row["window_id"] for row in rows if row["verdict"] == worse] or [row["window_id"] for row in rows]
    devices = {row["recording_id"]: row["device"] for row in rows}
    return Finding(
        kind=GRADUAL,
        drift=CONCEPT,
        feature=feature,
        lead="",
        scope=SITE,
        subject=site,
        before=before,
        after=after,
        unit="",
        effect=difference / spread,
        p_value=float(p),
        adjusted=float(p),
        windows=len(recent.value),
        recordings=tuple(int(i) for i in makers),
        devices=tuple(dict.fromkeys(devices[int(i)] for i in makers)),
        examples=tuple(examples[-5:][::-1]),
        since=None,
        detail=f"{feature}: {before:.3g} to {after:.3g}; {len(recent.value)} beats of {k1} recordings reviewed lately "
        f"against {len(earlier.value)} of {k0} before",
    )
