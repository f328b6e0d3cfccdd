"""Windows cut from real recordings: little is lost, every second is accounted for, the detector finds the beats."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import wfdb

from configs.contract import FeatureSpec
from warehouse.signal.ecg import AAMI_OF_SYMBOL, BeatAnnotations, RecordingHeader
from warehouse.signal.windows import concatenate, cut_windows

MITDB = Path(os.environ.get("ECG_MITDB_DIR") or "no folder")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (MITDB / "100.dat").exists(), reason="ECG_MITDB_DIR names no folder with MIT-BIH records"),
]

SPEC = FeatureSpec()


@dataclass(frozen=True)
class Record:
    header: RecordingHeader
    samples: np.ndarray
    beats: BeatAnnotations

    def read(self, start, stop):
        return self.samples[start:stop]

    def annotations(self):
        return self.beats


def record(name):
    signals, marks = wfdb.rdrecord(str(MITDB / name)), wfdb.rdann(str(MITDB / name), "atr")
    symbol = np.array(marks.symbol)
    beats = np.isin(symbol, list(AAMI_OF_SYMBOL))
    header = RecordingHeader(name, "wfdb", name, name, float(signals.fs), tuple(signals.sig_name), signals.sig_len, "")
    times = marks.sample[beats] / signals.fs
    return Record(header, signals.p_signal.astype(np.float32), BeatAnnotations(times, symbol[beats]))


def cut(source, **options):
    chunks = list(cut_windows(source, SPEC, block_s=900.0, **options))
    windows = concatenate([chunk.windows for chunk in chunks])
    return windows, [b for c in chunks for b in c.rejected], [s for c in chunks for s in c.unusable if s.lead is None]


@pytest.mark.parametrize("name", ["100", "104", "105", "108", "203", "228"])
def test_clean_and_noisy_records_lose_little(name):
    source = record(name)
    windows, rejected, unusable = cut(source)
    assert len(windows) + len(rejected) == len(source.beats.time_s)
    assert len(rejected) < 0.015 * len(source.beats.time_s)
    assert sum(span.end_s - span.start_s for span in unusable) < 0.02 * source.header.duration_s
    assert np.median(windows.quality) > 0.5
    assert np.abs(windows.r_peak_s[-1] - source.beats.time_s[-1]) < 3


def test_pauses_of_several_seconds_are_reported():
    """Record 232 has pauses of up to six seconds."""
    source = record("232")
    _, rejected, unusable = cut(source)
    pauses = np.flatnonzero(np.diff(source.beats.time_s) > SPEC.max_rr_s)
    assert len(pauses) > 5
    first_s, last_s = source.beats.time_s[[0, -1]]
    silent = [s for s in unusable if s.reason == "no_beat" and s.start_s > first_s and s.end_s < last_s]
    assert len(silent) == len(pauses)
    assert not rejected


@pytest.mark.parametrize("name", ["101", "107", "200", "213", "231"])
def test_the_detector_finds_the_reference_beats(name):
    source = record(name)
    windows, rejected, _ = cut(source, use_annotations=False)
    found = np.sort([*windows.r_peak_s, *(beat.r_peak_s for beat in rejected)])
    distance = np.abs(source.beats.time_s[:, None] - found[None, :])
    assert (distance.min(axis=1) <= 0.15).mean() > 0.99
    assert (distance.min(axis=0) <= 0.15).mean() > 0.97
    assert np.diff(found).min() >= 0.2
