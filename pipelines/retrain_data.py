"""What a successor is trained on, and whether the new part of it may be; before anything is trained."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from configs import contract
from configs.contract import FeatureSpec
from configs.errors import DataInvalidError
from configs.settings import RetrainSettings, TrainingSettings
from serving.comparison import roc_auc
from serving.model_client import ModelClient
from warehouse.store import Stores
from warehouse.store.records import LabelUse, ModelVersion, SpanChoice, WindowSet, blocks_of
from warehouse.store.window_block import WindowBlock

_BLOCK = 256  # beats that are drawn together: neighbours are alike, and a read costs more than its beats

_Key = TypeVar("_Key", bound=Hashable)
Ranges = Mapping[int, Sequence[tuple[int, int]]]


@dataclass(frozen=True)
class Choice:
    """What a successor sees.

    Attributes:
        new: window sets that the champion has not seen, whole.
        recent: others that were ingested of late, whole.
        memory: older ones, of which blocks are drawn.
        ranges: beats of each.
        numbers: how many of each, for the record.
    """

    new: Sequence[WindowSet]
    recent: Sequence[WindowSet]
    memory: Sequence[WindowSet]
    ranges: Ranges
    numbers: Mapping[str, Any]

    @property
    def span(self) -> SpanChoice:
        return SpanChoice(self.ranges, str(self.numbers["words"]))

    def slice_sets(self, name: str) -> list[WindowSet]:
        """Window sets of the slice "new" or "old"."""
        sets = self.new if name == "new" else [*self.recent, *self.memory]
        return [s for s in sets if s.window_set_id in self.ranges]


def choose_data(policy: RetrainSettings, stores: Stores, champion: ModelVersion, now: datetime) -> Choice:
    """Recent recordings whole, and of older ones a memory that is drawn evenly over kinds of patients and devices."""
    warehouse = stores.warehouse
    sets = warehouse.window_sets(champion.feature_version)
    seen = {entry["window_set_id"] for entry in warehouse.data_span(champion.data_span).content["window_sets"]}
    late = warehouse.ingested_since(now - timedelta(days=policy.recent_days))
    new = [s for s in sets if s.window_set_id not in seen]
    recent = [s for s in sets if s.window_set_id in seen and s.recording_id in late]
    older = [s for s in sets if s.window_set_id in seen and s.recording_id not in late]
    ranges: dict[int, Sequence[tuple[int, int]]] = {s.window_set_id: [(0, s.n_beats)] for s in (*new, *recent)}
    for split in contract.SPLITS:
        ranges |= draw_memory([s for s in older if s.split == split], policy.memory_windows)
    drawn = sum(stop - first for s in older for first, stop in ranges.get(s.window_set_id, ()))
    words = (
        f"{len(new)} recordings that version {champion.model_version} has not seen and {len(recent)} of the last "
        f"{policy.recent_days:g} days, whole; {drawn} beats of {len(older)} older ones, drawn evenly over device, "
        "leads, sex and age"
    )
    numbers = {
        "words": words,
        "new_recordings": len(new),
        "new_beats": sum(s.n_beats for s in new),
        "recent_recordings": len(recent),
        "recent_beats": sum(s.n_beats for s in recent),
        "memory_recordings": sum(s.window_set_id in ranges for s in older),
        "memory_beats": drawn,
    }
    return Choice(new, recent, older, ranges, numbers)


def draw_memory(sets: Sequence[WindowSet], beats: int) -> dict[int, list[tuple[int, int]]]:
    """Blocks of beats, about `beats` in all: strata get equal shares, as do the recordings of one; spread over each."""
    strata: dict[tuple[str, ...], list[WindowSet]] = {}
    for one in sets:
        strata.setdefault((one.device, ",".join(one.lead_slots), one.sex, one.age_band), []).append(one)
    sizes = {key: sum(s.n_beats for s in members) for key, members in strata.items()}
    ranges: dict[int, list[tuple[int, int]]] = {}
    for key, share in fill_evenly(sizes, beats).items():
        by_recording = fill_evenly({s.window_set_id: s.n_beats for s in strata[key]}, share)
        for one in strata[key]:
            if found := _spread(one.n_beats, by_recording[one.window_set_id]):
                ranges[one.window_set_id] = found
    return ranges


def fill_evenly(sizes: Mapping[_Key, int], total: int) -> dict[_Key, int]:
    """Shares of `total` that are equal but for those that have no more; never more than there is."""
    shares: dict[_Key, int] = {}
    left, keys = total, sorted(sizes, key=lambda key: sizes[key])
    for i, key in enumerate(keys):
        shares[key] = min(sizes[key], left // (len(keys) - i))
        left -= shares[key]
    return shares


def _spread(n_beats: int, wanted: int) -> list[tuple[int, int]]:
    """Blocks of a recording's beats, evenly over its length."""
    if wanted >= n_beats:
        return [(0, n_beats)] if n_beats else []
    n_blocks = -(-wanted // _BLOCK)
    if not n_blocks:
        return []
    size = wanted // n_blocks
    starts = np.linspace(0, n_beats - size, n_blocks).astype(int).tolist()
    found: list[tuple[int, int]] = []
    for start in starts:
        first = max(start, found[-1][1] if found else 0)
        if first < start + size:
            found.append((first, start + size))
    return found


# --- refusal ---------------------------------------------------------------------------------------------------------


def check_new_data(
    policy: RetrainSettings,
    training: TrainingSettings,
    stores: Stores,
    spec: FeatureSpec,
    choice: Choice,
    champion: ModelClient,
) -> dict[str, Any]:
    """What is known of the new recordings before anything learns from them.

    Raises:
        DataInvalidError: too much of them was lost, they are copies of each other, or their labels contradict what the
            champion has learnt.
    """
    lost, beats = sum(s.n_rejected for s in choice.new), sum(s.n_beats for s in choice.new)
    numbers: dict[str, Any] = {
        "lost_share": lost / beats if beats else None,
        "duplicate_share": stores.warehouse.duplicate_share([s.window_set_id for s in choice.new]),
        "label_agreement": _label_agreement(policy, training, stores, spec, choice, champion),
    }
    wrong = [
        f"{numbers['lost_share']:.0%} of their beats gave no window, {policy.max_lost_share:.0%} are allowed"
        if beats and numbers["lost_share"] > policy.max_lost_share
        else "",
        f"{numbers['duplicate_share']:.0%} of their windows are copies, {policy.max_duplicate_share:.0%} are allowed"
        if numbers["duplicate_share"] > policy.max_duplicate_share
        else "",
        f"their labels contradict the version in use: its ROC-AUC on them is {numbers['label_agreement']:.3f}, "
        f"at least {policy.min_label_agreement:g} is needed"
        if numbers["label_agreement"] is not None and numbers["label_agreement"] < policy.min_label_agreement
        else "",
    ]
    if any(wrong):
        ids = ", ".join(str(s.recording_id) for s in choice.new[:5]) + (", ..." if len(choice.new) > 5 else "")
        raise DataInvalidError(
            f"new recordings (recording_id {ids})",
            "are refused: " + "; ".join(line for line in wrong if line),
            "Look at them; replace or erase what is wrong, then run `python -m pipelines.retrain` again.",
        )
    return numbers


def _label_agreement(
    policy: RetrainSettings,
    training: TrainingSettings,
    stores: Stores,
    spec: FeatureSpec,
    choice: Choice,
    champion: ModelClient,
) -> float | None:
    """The champion's ROC-AUC on labelled beats of the new recordings; None where too few are labelled."""
    truth, score, _ = score_sets(stores, spec, training, choice.new, choice.ranges, champion)
    normal, anomalous = int((truth == 0).sum()), int((truth == 1).sum())
    if normal < policy.min_labelled or anomalous < policy.min_labelled / 5:
        return None
    known = truth >= 0
    return roc_auc(truth[known] == 1, score[known])


def score_sets(
    stores: Stores,
    spec: FeatureSpec,
    training: TrainingSettings,
    sets: Sequence[WindowSet],
    ranges: Ranges,
    client: ModelClient,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Truth (1 anomalous, 0 normal, -1 not known), score and verdict of these beats: (n,) each.

    Labels are read as training reads them.
    """
    warehouse = stores.warehouse
    until = 0 if training.reviewed_windows == "ignore" else warehouse.newest_label([s.window_set_id for s in sets])
    use = LabelUse(training.reviewed_windows, until) if until else None
    parts: list[tuple[Any, Any, Any]] = []
    for one in sets:
        for first_beat, stop_beat in ranges[one.window_set_id]:
            for first, stop in blocks_of(one, first_beat, stop_beat, training.block_windows):
                block: WindowBlock = (
                    warehouse.read_block(spec, first, stop)
                    if use is None
                    else warehouse.read_labelled_block(spec, first, stop, use)
                )
                if len(block):
                    scores = client.score(block.model_inputs())
                    truth = np.where(block.aami_class == b"U", -1, (block.aami_class != b"N").astype(np.int64))
                    parts.append((truth, scores.score, scores.verdict))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_)
    truth, score, verdict = (np.concatenate(column) for column in zip(*parts, strict=True))
    return truth, score, verdict
