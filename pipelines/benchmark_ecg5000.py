"""The benchmark's ECG5000 protocol: one patient's windows, cross-validated; there is no patient to hold out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from configs import contract
from configs.contract import FeatureSpec
from configs.errors import ConfigurationError
from configs.settings import TrainingSettings
from pipelines.benchmark_data import Dataset
from pipelines.benchmark_protocols import fit
from warehouse.signal.ecg import FloatArray
from warehouse.signal.readers import find_sources, read_ucr

FOLDS = 5
MEMBERS = 4  # on so few windows one autoencoder depends much on its seed, and each leaves other windows out
#: Few windows: more passes in smaller steps than on recordings, and a smaller net.
FEW_WINDOWS = {
    "epochs": 200,
    "batch_size": 16,
    "hidden_units": (64,),
    "latent_units": 8,
    "shift_samples": 0,
    "population": "known_patients",
    "use_template": False,
    "use_rhythm": False,
}


Indices = npt.NDArray[np.int64]
#: By detector, what a member measures of all windows (m,).
Measures = Mapping[str, FloatArray]


class Member(NamedTuple):
    """What one detector of a fold learns from."""

    learn: Indices
    choose: Indices  # windows of the same folds that it did not learn from, for the threshold
    seed: int


class PeerJob(NamedTuple):
    """For other people's detectors: windows (n, W, 1) of normal beats to learn from, others (m, W, 1) to score."""

    train: FloatArray
    test: FloatArray
    seed: int


def cross_validate(folder: Path, training: TrainingSettings) -> dict[str, Any]:
    """Accuracy over five stratified folds, of our autoencoders.

    Raises:
        ConfigurationError: there is no UCR file.
    """
    settings = training.model_copy(update=FEW_WINDOWS)

    def ours(data: Dataset, spec: FeatureSpec, members: Sequence[Member]) -> list[Measures]:
        def measure(member: Member) -> Measures:
            learnt = settings.model_copy(update={"seed": member.seed})
            fitted = fit(_rows(data, member.learn), _rows(data, member.choose), spec, learnt)
            # Not calibrated: a tail of some 58 windows would make members differ by more than what they measure.
            return {"ours": fitted.raw_measure(data)}

        return [measure(member) for member in members]

    result: dict[str, Any] = _cross_validate(folder, training.seed, ours)["ours"]
    return result


def cross_validate_peers(
    folder: Path, seed: int, run: Callable[[Sequence[PeerJob]], Sequence[Measures]]
) -> dict[str, dict[str, Any]]:
    """The same of other people's detectors: the same folds, as many members, the same choice of a threshold."""

    def theirs(data: Dataset, spec: FeatureSpec, members: Sequence[Member]) -> Sequence[Measures]:
        del spec
        samples = data.inputs[contract.SAMPLES]
        return run([PeerJob(samples[m.learn[~data.anomalous[m.learn]]], samples, m.seed) for m in members])

    return _cross_validate(folder, seed, theirs)


def _cross_validate(
    folder: Path, seed: int, measure: Callable[[Dataset, FeatureSpec, Sequence[Member]], Sequence[Measures]]
) -> dict[str, Any]:
    """Accuracy over five stratified folds, by detector.

    The windows of the other four folds are divided in four: each of four members learns from the normal ones of three
    parts, and scores the fourth. The threshold is the one that separates best those scores, of normal and anomalous
    windows, none of which its member learnt from. The fifth fold is the test, by the mean of the members' measures.

    Raises:
        ConfigurationError: there is no UCR file.
    """
    sources, _ = find_sources([str(path) for path in sorted(folder.glob("*_TRAIN.txt"))])
    if not sources:
        raise ConfigurationError(str(folder), "holds no UCR file *_TRAIN.txt", "Give the folder with --data.")
    precut = read_ucr(sources[0])
    spec = FeatureSpec(precut_samples=precut.samples.shape[1], lead_slots=(("ECG",),))
    data = _dataset(precut.samples, precut.aami_class)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    splits = list(folds.split(np.zeros(len(data)), data.anomalous))
    plan = [_members(others, data.anomalous, seed) for others, _ in splits]
    measured_by = iter(measure(data, spec, [member for fold in plan for member in fold]))
    score: dict[str, npt.NDArray[np.float64]] = {}
    right: dict[str, npt.NDArray[np.bool_]] = {}
    accuracy: dict[str, list[float]] = {}
    for (_, tested), fold in zip(splits, plan, strict=True):
        members = [(member.choose, next(measured_by)) for member in fold]
        chosen = np.concatenate([choose for choose, _ in members])
        for name in members[0][1]:
            left_out = np.concatenate([found[name][choose] for choose, found in members])
            threshold = best_threshold(data.anomalous[chosen], left_out)
            accuracy.setdefault(name, []).append(float(((left_out >= threshold) == data.anomalous[chosen]).mean()))
            measured = np.mean([found[name] for _, found in members], axis=0)
            score.setdefault(name, np.zeros(len(data)))[tested] = measured[tested]
            correct = (measured[tested] >= threshold) == data.anomalous[tested]
            right.setdefault(name, np.zeros(len(data), bool))[tested] = correct
    return {
        name: {
            "windows": len(data),
            "accuracy": float(right[name].mean()),
            "accuracy_by_fold": [float(right[name][tested].mean()) for _, tested in splits],
            "accuracy_left_out": float(np.mean(accuracy[name])),  # in the training folds: what settings are chosen by
            "ranking": {
                "roc_auc": float(roc_auc_score(data.anomalous, score[name])),
                "average_precision": float(average_precision_score(data.anomalous, score[name])),
            },
        }
        for name in score
    }


def _members(others: Indices, anomalous: npt.NDArray[np.bool_], seed: int) -> list[Member]:
    """The windows `others` in as many parts as there are members: each leaves one out."""
    parts = StratifiedKFold(MEMBERS, shuffle=True, random_state=seed).split(others, anomalous[others])
    return [
        Member(others[learn], others[choose], seed * MEMBERS + number) for number, (learn, choose) in enumerate(parts)
    ]


def best_threshold(anomalous: npt.NDArray[np.bool_], score: npt.NDArray[np.floating[Any]]) -> float:
    """The threshold (between two scores) of the greatest accuracy; of several, the middle one."""
    order = np.sort(np.unique(score))
    candidates = np.concatenate([[order[0] - 1], (order[1:] + order[:-1]) / 2, [order[-1] + 1]])
    accuracy = np.array([((score >= t) == anomalous).mean() for t in candidates])
    best = np.flatnonzero(accuracy == accuracy.max())
    return float(candidates[best[len(best) // 2]])


def _dataset(samples: npt.NDArray[np.float32], classes: npt.NDArray[np.str_]) -> Dataset:
    n = len(samples)
    return Dataset(
        inputs={
            contract.SAMPLES: samples,
            contract.LEAD_MASK: np.ones((n, 1), np.float32),
            contract.RR: np.zeros((n, len(contract.RR_COLUMNS)), np.float32),
            contract.TEMPLATE: np.zeros_like(samples),
            contract.TEMPLATE_BEATS: np.zeros((n, 1), np.float32),
        },
        anomalous=classes != "N",
        aami_class=classes,
        recording=np.full(n, "ecg5000"),
        r_peak_s=np.arange(n, dtype=np.float64),
        missed=(np.zeros(0, "<U4"), np.zeros(0, "<U4")),
    )


def _rows(data: Dataset, indices: npt.NDArray[np.int64]) -> Dataset:
    rows = np.zeros(len(data), bool)
    rows[indices] = True
    return data.take(rows)
