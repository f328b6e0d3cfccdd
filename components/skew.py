"""Training/serving skew by TensorFlow Data Validation: do features of live windows spread as those of training did?

TFDV measures how far two distributions are apart (Jensen-Shannon divergence of numbers, largest difference of shares of
words), and tests nothing: with enough windows any two samples differ. What is too far is therefore taken from the
training run itself, whose splits are of different patients too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl

from components.example_gen import to_record_batch
from configs import contract
from warehouse.store.records import WindowSet
from warehouse.store.window_block import WindowBlock

#: Not the masks and counts beside them: on what is nearly constant, TFDV's histograms are of one point, and 1 apart.
NUMBERS: Final = (contract.SAMPLES, contract.RR, contract.TEMPLATE)
WORDS: Final = (contract.LEADS,)
FACTOR: Final = 2.0  # times the splits of the training run differ
LEAST: Final = 0.02  # less is never too far
STATISTICS_FILE: Final = "FeatureStats.pb"


@dataclass(frozen=True)
class Skew:
    """How far a feature is from training, how far is too far, and what makes it so, if that is the schema."""

    feature: str
    distance: float
    limit: float
    problem: str = ""


def training_statistics(artifact: Path) -> dict[str, Any]:
    """What StatisticsGen left of each split that is there: split to TFDV's statistics."""
    files = {split: artifact / f"Split-{split}" / STATISTICS_FILE for split in contract.SPLITS}
    return {split: tfdv.load_stats_binary(str(file)) for split, file in files.items() if file.is_file()}


def serving_statistics(blocks: Iterable[tuple[WindowSet, WindowBlock]]) -> Any:
    """TFDV's statistics of live windows, in the very form that training reads them in; at least one block."""
    batches = [
        to_record_batch(
            block,
            {
                contract.RECORDING: window_set.recording,
                contract.SEX: window_set.sex,
                contract.AGE_BAND: window_set.age_band,
                contract.LEADS: ",".join(window_set.lead_slots),
            },
        )
        for window_set, block in blocks
    ]
    joined = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    return stats_impl.generate_statistics_in_memory(joined, tfdv.StatsOptions())


def find_skew(training: Mapping[str, Any], serving: Any, schema_file: Path) -> tuple[list[Skew], int]:
    """What is further from the training split than it may be, or breaks the curated schema; and how many were asked.

    Args:
        training: of `training_statistics`, the train split and at least one more.
        serving: of `serving_statistics`.
    """
    schema = tfdv.load_schema_text(str(schema_file))
    reference = training[contract.TRAIN]
    broken = tfdv.validate_statistics(serving, schema)
    asked_of = {*contract.MODEL_INPUTS, *WORDS}  # how recordings are called is nobody's skew
    problems = {name: info.description for name, info in sorted(broken.anomaly_info.items()) if name in asked_of}
    found = [Skew(name, 0.0, 0.0, problem) for name, problem in problems.items()]
    own = [_distances(reference, other, schema) for split, other in training.items() if split != contract.TRAIN]
    distances = _distances(reference, serving, schema)
    for name, distance in sorted(distances.items()):
        limit = max(LEAST, FACTOR * max((of_split.get(name, 0.0) for of_split in own), default=0.0))
        if distance > limit:
            found.append(Skew(name, distance, limit))
    return found, len(distances)


def _distances(reference: Any, other: Any, schema: Any) -> dict[str, float]:
    asked = type(schema)()
    asked.CopyFrom(schema)
    for feature in asked.feature:
        if feature.name in NUMBERS:
            feature.skew_comparator.jensen_shannon_divergence.threshold = 0.0
        elif feature.name in WORDS:
            feature.skew_comparator.infinity_norm.threshold = 0.0
    anomalies = tfdv.validate_statistics(reference, asked, serving_statistics=other)
    return {
        info.path.step[0]: measured.value for info in anomalies.drift_skew_info for measured in info.skew_measurements
    }
