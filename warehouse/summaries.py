"""What follows a recording's scores: verdicts by its own thresholds if these are wanted, episodes, summary."""

from dataclasses import dataclass

import numpy as np

from configs.settings import ScoringSettings
from warehouse.signal.alarm_rate import own_thresholds
from warehouse.signal.reviewed_threshold import beats_to_review
from warehouse.store.records import ModelVersion, WindowSet
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse


@dataclass(frozen=True)
class SummaryRules:
    """How verdicts become a summary.

    Attributes:
        gap_beats: normal beats that may lie between anomalous beats of one episode.
        own_thresholds: verdicts are by thresholds that follow the recording, at the model's false alarm rate.
    """

    gap_beats: int
    own_thresholds: bool = False


def summary_rules(settings: ScoringSettings) -> SummaryRules:
    """The rules that settings ask for."""
    return SummaryRules(settings.episode_gap_beats, own_thresholds=settings.thresholds == "recording")


def summarise(
    warehouse: Warehouse, results: Results, model_version: int, window_set: WindowSet, rules: SummaryRules
) -> None:
    """Makes a recording's episodes and summary anew, from all its scores.

    Each step is a transaction and gives the same however often it is done; without a summary a recording counts as
    pending, so what a kill interrupts is done again.
    """
    if rules.own_thresholds:
        (model,) = results.models(model_version)[:1]
        apply_own_thresholds(warehouse, results, model, window_set)
    results.summarise(model_version, window_set, warehouse.mean_heart_rate_bpm(window_set), rules.gap_beats)


def apply_own_thresholds(warehouse: Warehouse, results: Results, model: ModelVersion, window_set: WindowSet) -> int:
    """Decides a recording's verdicts by its own thresholds (see `warehouse.signal.alarm_rate`), with what was reviewed.

    Returns:
        How many verdicts changed.
    """
    scored = results.scores_in_order(model.model_version, window_set)
    rate = 10.0**-model.threshold
    threshold = own_thresholds(scored["score"], rate, scored["reviewed"].astype(np.int8))
    verdict = scored["score"] >= threshold
    new = scored["window_id"][verdict & ~scored["verdict"]]
    block = warehouse.read_windows(warehouse.feature_spec(model.feature_version), new.tolist())
    results.decide_anew(model.model_version, window_set, scored["window_id"], threshold, block)
    return int((verdict != scored["verdict"]).sum())


def beats_for_threshold(results: Results, model: ModelVersion, window_set: WindowSet, n: int) -> tuple[list[int], int]:
    """Which of a recording's beats to review so that its own threshold is right (see `warehouse.signal.alarm_rate`).

    Returns:
        Window ids of at most n beats that nobody reviewed, and how many were called normal or anomalous so far.
    """
    scored = results.scores_in_order(model.model_version, window_set)
    if not len(scored["score"]):
        return [], 0
    reviewed = scored["reviewed"].astype(np.int8)
    rows = beats_to_review(scored["score"], reviewed, scored["asked"], 10.0**-model.threshold, n)
    return scored["window_id"][rows].tolist(), int(np.count_nonzero(reviewed))
