"""Two model versions on the same windows: one in shadow against stable, and any two where the class is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import DataInvalidError, NotFoundError
from warehouse.store import Stores
from warehouse.store import tables as t
from warehouse.store.records import WindowSet

Array = npt.NDArray[Any]

RESAMPLES = 500  # of the bootstrap
CONFIDENCE = 0.95


def compare_shadow(stores: Stores, limit: int) -> dict[str, Any]:
    """How the version in shadow differs from stable, on the windows that both have scored.

    Args:
        limit: windows that only one of them found anomalous to list, the largest differences first.

    Raises:
        NotFoundError: no version is in shadow.
    """
    release = stores.results.release()
    if release.shadow is None:
        raise NotFoundError("shadow", "no version is in shadow", "`python -m serving.release shadow V` puts one there.")
    pairs = _Pairs(stores, release.stable, release.shadow)
    only = pairs.verdict_a != pairs.verdict_b
    ap = _average_precision_difference(pairs)
    return {
        "stable": release.stable,
        "challenger": release.shadow,
        "windows": len(pairs.window_id),
        "only_stable_scored": pairs.only_a,
        "only_challenger_scored": pairs.only_b,
        **_differences(pairs, np.ones(len(pairs.window_id), bool)),
        "ap_difference": ap,
        "stable_model_s_per_window": stores.results.model_seconds_per_window(release.stable),
        "challenger_model_s_per_window": stores.results.model_seconds_per_window(release.shadow),
        "by_recording": {name: _differences(pairs, pairs.recording == name) for name in np.unique(pairs.recording)},
        "by_class": {name: _differences(pairs, pairs.label == name) for name in np.unique(pairs.label)},
        "by_lead": {name: _differences(pairs, pairs.lead_a == name) for name in np.unique(pairs.lead_a)},
        "only_one_found": _examples(pairs, only, limit),
    }


def compare_on_known(stores: Stores, a: int, b: int, *, seed: int = 0) -> dict[str, Any]:
    """Two versions on windows whose class is known: reviewers' verdicts, else reference classes.

    Differences are b minus a with a 95 % interval, by a bootstrap over recordings (windows of one recording are alike;
    over windows where there are fewer than five recordings).

    Raises:
        NotFoundError: there is no such version.
        DataInvalidError: too few windows that both scored are known to be normal and anomalous.
    """
    for version in (a, b):
        stores.results.models(version)
    pairs = _Pairs(stores, a, b)
    known = pairs.truth >= 0
    truth = pairs.truth[known] == 1
    if truth.sum() < 10 or (~truth).sum() < 10:
        raise DataInvalidError(
            f"versions {a} and {b}",
            f"share {int(truth.sum())} windows known as anomalous and {int((~truth).sum())} as normal; both need 10",
            "Score the same recordings with both (`shadow`), and review some.",
        )
    score_a, score_b = pairs.score_a[known], pairs.score_b[known]
    flag_a, flag_b = pairs.verdict_a[known], pairs.verdict_b[known]
    groups = pairs.recording[known]
    by_recording = len(np.unique(groups)) >= 5
    group_rows = [np.flatnonzero(groups == name) for name in np.unique(groups)] if by_recording else None
    measures = {
        "roc_auc": (roc_auc, score_a, score_b),
        "average_precision": (average_precision, score_a, score_b),
        "recall": (_recall, flag_a, flag_b),
        "precision": (_precision, flag_a, flag_b),
        "false_alarm_rate": (_false_alarm_rate, flag_a, flag_b),
    }
    random = np.random.default_rng(seed)
    drawn = [_draw(random, len(truth), group_rows) for _ in range(RESAMPLES)]
    drawn = [rows for rows in drawn if truth[rows].any() and not truth[rows].all()]
    result: dict[str, Any] = {
        "a": a,
        "b": b,
        "windows": len(truth),
        "anomalous": int(truth.sum()),
        "reviewed": int(pairs.reviewed[known].sum()),
        "recordings": len(np.unique(groups)),
        "resampled": "recordings" if by_recording else "windows",
        "measures": {},
    }
    for name, (measure, of_a, of_b) in measures.items():
        samples = np.array([(measure(truth[rows], of_a[rows]), measure(truth[rows], of_b[rows])) for rows in drawn])
        result["measures"][name] = {
            "a": _with_interval(measure(truth, of_a), samples[:, 0]),
            "b": _with_interval(measure(truth, of_b), samples[:, 1]),
            "difference": _with_interval(measure(truth, of_b) - measure(truth, of_a), samples[:, 1] - samples[:, 0]),
        }
    return result


def roc_auc(truth: Array, score: Array) -> float:
    """Area under the ROC curve: the share of pairs (anomalous, normal) in the right order, ties half."""
    order = np.argsort(score, kind="stable")
    values = score[order]
    _, first, counts = np.unique(values, return_index=True, return_counts=True)
    ranks = np.repeat(first + (counts + 1) / 2, counts)  # the mean rank of equal scores
    n_true = int(truth.sum())
    n_false = len(truth) - n_true
    if n_true == 0 or n_false == 0:
        return float("nan")
    return float((ranks[truth[order]].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def average_precision(truth: Array, score: Array) -> float:
    """Mean precision over recall, thresholds at each distinct score."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.append(np.diff(score[order]) != 0, True)  # of each run of equal scores
    found, flagged = hits[last], np.flatnonzero(last) + 1
    recall = found / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * found / flagged))


class _Pairs:
    """Windows that two versions have scored, and what is known of them. All arrays are (n,), by window id."""

    def __init__(self, stores: Stores, a: int, b: int) -> None:
        of_a, of_b = stores.results.all_scores(a), stores.results.all_scores(b)
        _, in_a, in_b = np.intersect1d(of_a["window_id"], of_b["window_id"], assume_unique=True, return_indices=True)
        self.only_a, self.only_b = len(of_a["window_id"]) - len(in_a), len(of_b["window_id"]) - len(in_b)
        self.window_id: Array = of_a["window_id"][in_a]
        self.recording_id: Array = of_a["recording_id"][in_a]
        self.score_a, self.score_b = of_a["score"][in_a], of_b["score"][in_b]
        self.verdict_a, self.verdict_b = of_a["verdict"][in_a], of_b["verdict"][in_b]
        self.lead_a = np.full(len(in_a), "", "U32")
        self.recording = np.full(len(in_a), "", "U200")
        self.label = np.full(len(in_a), "U", "U1")
        self.r_peak_s = np.zeros(len(in_a))
        feature_version = stores.results.models(a)[0].feature_version
        slots = of_a["lead_slot"][in_a]
        for window_set in stores.warehouse.window_sets(feature_version):
            self._describe(stores, window_set, slots)
        self._judge(stores.results.reviewed())

    def _describe(self, stores: Stores, window_set: WindowSet, slots: Array) -> None:
        rows = np.arange(*np.searchsorted(self.window_id, window_set.id_range(0, t.MAX_BEATS)))
        if not len(rows):
            return
        self.recording[rows] = window_set.recording
        names = np.array([*window_set.lead_slots, ""])
        self.lead_a[rows] = names[np.minimum(slots[rows], len(names) - 1)]
        known = stores.warehouse.window_classes(*window_set.id_range(0, t.MAX_BEATS))
        at = np.searchsorted(known["window_id"], self.window_id[rows])
        at = np.minimum(at, max(len(known["window_id"]) - 1, 0))
        there = known["window_id"][at] == self.window_id[rows]
        self.label[rows[there]] = known["aami_class"].view("S1").reshape(-1)[at[there]].astype("U1")
        self.r_peak_s[rows[there]] = known["r_peak_s"][at[there]]

    def _judge(self, reviewed: Mapping[int, bool]) -> None:
        """truth: 1 anomalous, 0 normal, -1 not known; a reviewer's word before the reference class."""
        self.truth = np.where(self.label == "U", -1, (self.label != "N").astype(int))
        self.reviewed = np.zeros(len(self.window_id), bool)
        if reviewed:
            ids = np.fromiter(reviewed, dtype=np.int64)
            verdicts = np.fromiter(reviewed.values(), dtype=bool)
            _, rows, which = np.intersect1d(self.window_id, ids, assume_unique=True, return_indices=True)
            self.truth[rows] = verdicts[which]
            self.reviewed[rows] = True


def _differences(pairs: _Pairs, rows: Array) -> dict[str, Any]:
    n = int(rows.sum())
    a, b = pairs.verdict_a[rows], pairs.verdict_b[rows]
    shift = pairs.score_b[rows] - pairs.score_a[rows]
    return {
        "n": n,
        "agreement": float((a == b).mean()) if n else None,
        "stable_flagged": float(a.mean()) if n else None,
        "challenger_flagged": float(b.mean()) if n else None,
        "only_stable_found": int((a & ~b).sum()),
        "only_challenger_found": int((~a & b).sum()),
        "score_shift": {
            "mean": float(shift.mean()) if n else None,
            "p5": float(np.percentile(shift, 5)) if n else None,
            "p95": float(np.percentile(shift, 95)) if n else None,
        },
    }


def _examples(pairs: _Pairs, only: Array, limit: int) -> list[dict[str, Any]]:
    rows = np.flatnonzero(only)
    rows = rows[np.argsort(-np.abs(pairs.score_b[rows] - pairs.score_a[rows]), kind="stable")][:limit]
    return [
        {
            "window_id": int(pairs.window_id[i]),
            "recording": str(pairs.recording[i]),
            "r_peak_s": float(pairs.r_peak_s[i]),
            "label": str(pairs.label[i]),
            "found_by": "stable" if pairs.verdict_a[i] else "challenger",
            "stable_score": float(pairs.score_a[i]),
            "challenger_score": float(pairs.score_b[i]),
            "link": f"/windows/{int(pairs.window_id[i])}",
        }
        for i in rows
    ]


def _average_precision_difference(pairs: _Pairs) -> float | None:
    known = pairs.truth >= 0
    truth = pairs.truth[known] == 1
    if truth.sum() < 10 or (~truth).sum() < 10:
        return None
    return average_precision(truth, pairs.score_b[known]) - average_precision(truth, pairs.score_a[known])


def _draw(random: np.random.Generator, n: int, groups: list[Array] | None) -> Array:
    if groups is None:
        return random.integers(0, n, n)
    return np.concatenate([groups[i] for i in random.integers(0, len(groups), len(groups))])


def _with_interval(value: float, samples: Array) -> dict[str, float | None]:
    """A value and its interval; None where it is not defined, such as precision where nothing is flagged."""
    tail = 100 * (1 - CONFIDENCE) / 2
    defined = samples[np.isfinite(samples)]
    if not np.isfinite(value) or not len(defined):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(defined, [tail, 100 - tail])
    return {"value": float(value), "low": float(low), "high": float(high)}


def _recall(truth: Array, flagged: Array) -> float:
    return float(flagged[truth].mean()) if truth.any() else float("nan")


def _precision(truth: Array, flagged: Array) -> float:
    return float(truth[flagged].mean()) if flagged.any() else float("nan")


def _false_alarm_rate(truth: Array, flagged: Array) -> float:
    return float(flagged[~truth].mean()) if (~truth).any() else float("nan")
