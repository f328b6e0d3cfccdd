"""Tables of errors: false alarms and misses by what a beat is like, and where the lost ROC-AUC lies."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from configs import contract
from pipelines.error_beats import ScoredBeats, StrArray

BoolArray = npt.NDArray[np.bool_]

#: Lower edges of the bands, and how they are written.
RATE_BPM = (0.0, 50.0, 60.0, 70.0, 80.0, 100.0)
QUALITY = (0.0, 0.5, 0.7, 0.8, 0.9)
OFFSET_MS = (0.0, 6.0, 12.0, 22.0, 50.0)


@dataclass(frozen=True)
class ErrorTable:
    """Rows of one grouping; see `error_table` for the keys of a row."""

    name: str
    rows: Sequence[dict[str, Any]]


def error_tables(beats: ScoredBeats, threshold: float) -> list[ErrorTable]:
    """Errors by class, symbol, recording, heart rate, noise and R-peak offset."""
    offset = np.abs(beats.offset_ms)
    groupings: dict[str, tuple[StrArray, Iterable[str]]] = {
        "AAMI class": (beats.data.aami_class, "NSVFQ"),
        "annotation symbol": (beats.symbol, np.unique(beats.symbol).tolist()),
        "recording": (beats.data.recording, np.unique(beats.data.recording).tolist()),
        "heart rate, per minute": _banded(beats.rate_bpm, RATE_BPM, "g", "unknown"),
        "signal quality": _banded(beats.quality, QUALITY, ".1f", "unknown"),
        "R peak found off by, ms": _banded(offset, OFFSET_MS, "g", "not found"),
    }
    return [
        error_table(name, beats.data.anomalous, beats.score, labels, order, threshold)
        for name, (labels, order) in groupings.items()
    ]


def _banded(values: npt.NDArray[Any], edges: Sequence[float], form: str, missing: str) -> tuple[StrArray, list[str]]:
    """The band of each value, and the bands in order; NaN is in the band `missing`."""
    names = [f"{a:{form}} to {b:{form}}" for a, b in itertools.pairwise(edges)]
    names += [f"{edges[-1]:{form}} and more", missing]
    band = np.clip(np.searchsorted(edges, np.nan_to_num(values), side="right") - 1, 0, len(edges) - 1)
    return np.asarray(names)[np.where(np.isnan(values), len(edges), band)], names


def error_table(
    name: str, anomalous: BoolArray, score: npt.NDArray[Any], labels: StrArray, order: Iterable[str], threshold: float
) -> ErrorTable:
    """Counts by group: normal, false_alarms, anomalous, misses; and the group's own roc_auc.

    The ROC-AUC of a group with one kind of beat is against all beats of the other kind.
    """
    rows = []
    for label in order:
        own = labels == label
        if not own.any():
            continue
        normal, abnormal = own & ~anomalous, own & anomalous
        against = (normal if normal.any() else ~anomalous) | (abnormal if abnormal.any() else anomalous)
        rows.append(
            {
                "group": label,
                "normal": int(normal.sum()),
                "false_alarms": int((score[normal] >= threshold).sum()),
                "anomalous": int(abnormal.sum()),
                "misses": int((score[abnormal] < threshold).sum()),
                "roc_auc": float(roc_auc_score(anomalous[against], score[against])),
            }
        )
    return ErrorTable(name, rows)


def most_errors(beats: ScoredBeats, threshold: float, most: int = 10) -> dict[str, list[dict[str, Any]]]:
    """Which recordings and symbols have most false alarms, and most misses.

    Returns:
        For "false alarms" and "misses": group, errors, beats of the group, means over the errors of each part, and the
        share of them that came earlier than nine tenths of the previous RR intervals' median.
    """
    kinds = np.char.add(np.char.add(beats.data.recording, " "), beats.symbol)
    rr = beats.data.inputs[contract.RR]
    previous, median = (rr[:, contract.RR_COLUMNS.index(name)] for name in ("rr_prev_s", "rr_median_s"))
    early = (previous > 0) & (previous < 0.9 * median)
    flagged, anomalous = beats.score >= threshold, beats.data.anomalous
    found = {}
    for name, wrong in {"false alarms": flagged & ~anomalous, "misses": ~flagged & anomalous}.items():
        groups = []
        for kind in np.unique(kinds[wrong]):
            own = wrong & (kinds == kind)
            parts = dict(zip(contract.PART_NAMES, beats.parts[own].mean(axis=0).tolist(), strict=True))
            counts = {"group": str(kind), "errors": int(own.sum()), "beats": int((kinds == kind).sum())}
            groups.append({**counts, **parts, "early": float(early[own].mean())})
        found[name] = sorted(groups, key=lambda group: -group["errors"])[:most]
    return found


def auc_lost(anomalous: BoolArray, score: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What each beat costs of the ROC-AUC (n,).

    1 - AUC is the share of pairs of an anomalous and a normal beat in the wrong order. Each beat's value is its own
    pairs' part of it: the anomalous beats' values add up to 1 - AUC, and so do the normal beats'.
    """
    values = np.zeros(len(score))
    normals, abnormal = np.sort(score[~anomalous]), np.sort(score[anomalous])
    pairs = max(len(normals) * len(abnormal), 1)

    def below(ordered: npt.NDArray[Any], at: npt.NDArray[Any]) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = (np.searchsorted(ordered, at, "left") + np.searchsorted(ordered, at, "right")) / 2
        return found

    values[anomalous] = (len(normals) - below(normals, score[anomalous])) / pairs
    values[~anomalous] = below(abnormal, score[~anomalous]) / pairs
    return values


def largest_losses(beats: ScoredBeats, most: int = 8) -> dict[str, list[dict[str, Any]]]:
    """Which anomalous beats (by recording and class), and which recordings' normal beats, cost most of the ROC-AUC.

    Returns:
        For "anomalous" and "normal": group, beats, lost; roc_auc against all beats of the other kind; own_roc_auc
        against those of the same recording, None where there are none.
    """
    recording, anomalous, score = beats.data.recording, beats.data.anomalous, beats.score
    lost = auc_lost(anomalous, score)
    kinds = np.char.add(np.char.add(recording, " "), beats.data.aami_class)
    found = {}
    for name, rows in {"anomalous": anomalous, "normal": ~anomalous}.items():
        groups: list[dict[str, Any]] = []
        for kind in np.unique(kinds[rows]):
            own = kinds == kind
            all_others, its_others = own | ~rows, own | (~rows & (recording == kind.split()[0]))
            alone = (its_others == own).all()
            groups.append(
                {
                    "group": str(kind),
                    "beats": int(own.sum()),
                    "lost": float(lost[own].sum()),
                    "roc_auc": float(roc_auc_score(anomalous[all_others], score[all_others])),
                    "own_roc_auc": None if alone else float(roc_auc_score(anomalous[its_others], score[its_others])),
                }
            )
        found[name] = sorted(groups, key=lambda group: -group["lost"])[:most]
    return found


def by_own_normals(beats: ScoredBeats) -> dict[str, float]:
    """What the ranking would be, were each recording's own normal beats known and its scores ranked among those.

    Uses the labels of the test: a bound for what calibration of each recording can bring, not a result.
    """
    recording, anomalous = beats.data.recording, beats.data.anomalous
    ranked = np.zeros(len(beats.score))
    for name in np.unique(recording):
        own = recording == name
        normals = np.sort(beats.score[own & ~anomalous])
        reached = len(normals) - np.searchsorted(normals, beats.score[own], "left")
        ranked[own] = -np.log10((reached + 1) / (len(normals) + 1)) + 1e-3 * beats.score[own]  # beyond all: by score
    return {
        "roc_auc": float(roc_auc_score(anomalous, ranked)),
        "average_precision": float(average_precision_score(anomalous, ranked)),
    }


def without(beats: ScoredBeats, kinds: dict[str, BoolArray]) -> list[dict[str, Any]]:
    """ROC-AUC and average precision when some beats (n,) are left out of the test."""
    rows = []
    for name, left_out in {"nothing": np.zeros(len(beats.data), np.bool_), **kinds}.items():
        truth, score = beats.data.anomalous[~left_out], beats.score[~left_out]
        rows.append(
            {
                "left_out": name,
                "beats": int(left_out.sum()),
                "roc_auc": float(roc_auc_score(truth, score)),
                "average_precision": float(average_precision_score(truth, score)),
            }
        )
    return rows
