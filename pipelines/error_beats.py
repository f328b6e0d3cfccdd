"""The test beats of the benchmark with what an error may depend on: rate, noise, where the R peak was found."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from configs import contract
from configs.contract import FeatureSpec
from pipelines.benchmark_data import BLOCK_S, MATCH_S, Dataset, join, to_dataset
from pipelines.benchmark_protocols import Fitted
from warehouse.signal.ecg import FloatArray, Int16Array, TimeArray, Windows
from warehouse.signal.readers import find_sources, open_source
from warehouse.signal.windows import choose_leads, concatenate, cut_windows

_BATCH = 4096
_NO_SAMPLE = np.iinfo(np.int16).min
StrArray = npt.NDArray[np.str_]


@dataclass(frozen=True)
class TestRecording:
    """A recording with its signal and its reference beats.

    Attributes:
        signal_mv: float32 (n, leads) at the windows' rate, band-passed, NaN where there is no sample.
        leads: names of its columns.
        windows: at the reference R peaks.
        offset_s: (n_windows,), the platform's own R peak minus the reference's; NaN where it found none near.
    """

    __test__ = False  # for pytest, which takes the name for a test's

    name: str
    signal_mv: FloatArray
    leads: tuple[str, ...]
    windows: Windows
    offset_s: TimeArray


@dataclass(frozen=True)
class ScoredBeats:
    """n scored beats of several recordings, in the recordings' order.

    Attributes:
        data: what the model saw, and the truth.
        symbol: str (n,), annotation symbols.
        rate_bpm: (n,), by the median of the previous RR intervals; NaN where that is unknown.
        quality: (n,), signal quality, 0 worst to 1 best.
        offset_ms: (n,), see `TestRecording.offset_s`.
        score: (n,).
        parts: (n, parts), what each part added, columns as `contract.PART_NAMES`.
    """

    data: Dataset
    symbol: StrArray
    rate_bpm: TimeArray
    quality: FloatArray
    offset_ms: TimeArray
    score: FloatArray
    parts: FloatArray


def read_recordings(folder: Path, records: Sequence[int], spec: FeatureSpec) -> list[TestRecording]:
    """Reads MIT-BIH records twice: at the reference R peaks, and at those that the platform's detector finds."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_read, [(folder / str(record), spec) for record in records]))


def _read(job: tuple[Path, FeatureSpec]) -> TestRecording:
    path, spec = job
    (reference,), _ = find_sources([str(path)])
    source = open_source(reference)
    chunks = list(cut_windows(source, spec, block_s=BLOCK_S))
    windows = concatenate([chunk.windows for chunk in chunks])
    counts: Int16Array = np.concatenate([chunk.signal for chunk in chunks if chunk.signal is not None])
    signal = np.where(counts == _NO_SAMPLE, np.nan, counts * np.float32(contract.MV_PER_COUNT)).astype(np.float32)
    found = [
        time_s
        for chunk in cut_windows(source, spec, block_s=BLOCK_S, use_annotations=False)
        for time_s in (*chunk.windows.r_peak_s, *(beat.r_peak_s for beat in chunk.rejected))
    ]
    names = source.header.leads
    leads = tuple(names[slot] for slot in choose_leads(names, spec) if slot is not None)
    return TestRecording(path.name, signal, leads, windows, offsets(np.sort(found), windows.r_peak_s))


def offsets(found_s: TimeArray, reference_s: TimeArray) -> TimeArray:
    """Of each reference beat (n,): the nearest found R peak minus its own, NaN beyond 150 ms."""
    if not len(found_s):
        return np.full(len(reference_s), np.nan)
    after = np.clip(np.searchsorted(found_s, reference_s), 0, len(found_s) - 1)
    both = np.stack([found_s[np.maximum(after - 1, 0)], found_s[after]]) - reference_s
    nearest = np.take_along_axis(both, np.abs(both).argmin(axis=0)[np.newaxis], axis=0)[0]
    return np.where(np.abs(nearest) <= MATCH_S, nearest, np.nan)


def score_beats(fitted: Fitted, recordings: Sequence[TestRecording]) -> ScoredBeats:
    """Scores all beats of the recordings, with the parts of each score."""
    none = np.zeros(0, "<U4")
    data = join([to_dataset(r.windows, r.windows.aami_class, r.name, none) for r in recordings])
    call = tf.function(
        lambda **raw: fitted.model.answer({k: tf.reshape(v, (tf.shape(v)[0], -1)) for k, v in raw.items()}),
        reduce_retracing=True,
    )
    answers = [
        call(**{k: tf.constant(v[i : i + _BATCH]) for k, v in data.inputs.items()}) for i in range(0, len(data), _BATCH)
    ]
    median_s = data.inputs[contract.RR][:, contract.RR_COLUMNS.index("rr_median_s")].astype(np.float64)
    return ScoredBeats(
        data=data,
        symbol=np.concatenate([r.windows.symbol for r in recordings]),
        rate_bpm=np.where(median_s > 0, 60 / np.maximum(median_s, 1e-3), np.nan),
        quality=np.concatenate([r.windows.quality for r in recordings]),
        offset_ms=np.concatenate([r.offset_s for r in recordings]) * 1000.0,
        score=np.concatenate([answer[contract.SCORE].numpy() for answer in answers]),
        parts=np.concatenate([answer[contract.PARTS].numpy() for answer in answers]),
    )
