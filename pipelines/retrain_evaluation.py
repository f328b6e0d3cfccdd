"""Champion and challenger on what the champion knew and on what is new: who may follow whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from configs import contract
from configs.contract import FeatureSpec
from configs.settings import RetrainSettings, TrainingSettings
from pipelines.retrain_data import Choice, score_sets
from serving.comparison import average_precision, roc_auc
from serving.model_client import ModelClient
from warehouse.store import Stores

OLD, NEW = "old", "new"
CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may go into shadow, why, and the numbers: slice to role to measure."""

    better: bool
    reason: str
    numbers: Mapping[str, Any]


def compare_on_slices(
    policy: RetrainSettings,
    training: TrainingSettings,
    stores: Stores,
    spec: FeatureSpec,
    choice: Choice,
    clients: Mapping[str, ModelClient],
) -> Verdict:
    """Scores the test patients' beats of both slices with both versions, and judges.

    Args:
        clients: of `CHAMPION` and `CHALLENGER`.
    """
    numbers: dict[str, Any] = {}
    for name in (OLD, NEW):
        sets = [s for s in choice.slice_sets(name) if s.split == contract.TEST]
        numbers[name] = {"recordings": len(sets)}
        for role, client in clients.items():
            truth, score, verdict = score_sets(stores, spec, training, sets, choice.ranges, client)
            numbers[name] |= {"normal": int((truth == 0).sum()), "anomalous": int((truth == 1).sum())}
            numbers[name][role] = measures(truth, score, verdict)
    return judge(policy, numbers)


def measures(
    truth: npt.NDArray[np.int64], score: npt.NDArray[np.float32], verdict: npt.NDArray[np.bool_]
) -> dict[str, float | None]:
    """Of the beats whose class is known; None where there is none of a kind, but for the share flagged, of all."""
    normal, anomalous, known = truth == 0, truth == 1, truth >= 0
    recall = float(verdict[anomalous].mean()) if anomalous.any() else None
    false_alarms = float(verdict[normal].mean()) if normal.any() else None
    if recall is None or false_alarms is None:
        ranking: dict[str, float | None] = dict.fromkeys(("roc_auc", "average_precision", "balanced_accuracy"))
    else:
        ranking = {
            "roc_auc": roc_auc(anomalous[known], score[known]),
            "average_precision": average_precision(anomalous[known], score[known]),
            "balanced_accuracy": (recall + 1 - false_alarms) / 2,
        }
    return {
        **ranking,
        "recall": recall,
        "false_alarm_rate": false_alarms,
        "flagged_share": float(verdict.mean()) if len(verdict) else None,
    }


def judge(policy: RetrainSettings, numbers: Mapping[str, Any]) -> Verdict:
    """Better on the new slice, and not worse on either. A slice that cannot be judged decides nothing for it.

    Where there is nothing new (retrained for age, or because somebody was erased), no loss is enough.
    """
    missed, gained = [], None
    for name in (OLD, NEW):
        part = numbers[name]
        if not part["recordings"]:
            if name == NEW:
                continue
            missed.append("no test patient is left of what the version in use was trained on")
            continue
        if part["normal"] < policy.min_labelled or part["anomalous"] < policy.min_labelled / 5:
            missed.append(
                f"the {name} slice has {part['normal']} normal and {part['anomalous']} anomalous labelled beats of "
                f"test patients, {policy.min_labelled} and {policy.min_labelled / 5:g} are needed: label or review some"
            )
            continue
        for measure in ("average_precision", "balanced_accuracy"):
            loss = part[CHAMPION][measure] - part[CHALLENGER][measure]
            if loss > policy.max_loss:
                missed.append(f"{measure} falls by {loss:.4f} on the {name} slice, {policy.max_loss:g} is allowed")
        if name == NEW:
            gained = part[CHALLENGER]["balanced_accuracy"] - part[CHAMPION]["balanced_accuracy"]
            if gained <= policy.min_gain:
                missed.append(
                    f"balanced accuracy on the new slice gains {gained:+.4f}, more than {policy.min_gain:g} is needed"
                )
    if missed:
        return Verdict(False, "; ".join(missed), numbers)
    if gained is None:
        return Verdict(True, "no worse on what was there; nothing is new", numbers)
    return Verdict(True, f"balanced accuracy on the new slice gains {gained:+.4f}, and no worse on the old", numbers)
