"""What the review page's tests look at: recordings with a known signal, scores, and readers."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from api.access import SCOPES_OF_ROLE, new_key
from configs.contract import RR_COLUMNS, FeatureSpec
from warehouse.signal.ecg import RecordingHeader, SignalSource, UnusableSpan, WindowChunk, Windows
from warehouse.signal.windows import choose_leads, cut_windows
from warehouse.store import Stores
from warehouse.store.records import BlockScores, Patient, WindowSet

SPEC = FeatureSpec()
START = datetime(2026, 1, 31, 8, tzinfo=UTC)
THRESHOLD = 1.5


def add_model(stores: Stores, version: int = 1) -> int:
    stores.results.register_model(
        {
            "model_version": version, "model_name": "ecg_autoencoder", "feature_version": SPEC.digest,
            "feature_spec": SPEC.model_dump(mode="json"), "threshold": THRESHOLD, "digest": f"digest {version}",
            "data_span": 1, "run_key": f"run {version}", "card": {},
        }
    )  # fmt: skip
    return version


def add_patient(stores: Stores, pseudonym: str) -> Patient:
    shares = {"train": 0.5, "calibration": 0.2, "test": 0.3}
    return stores.warehouse.ensure_patients([(pseudonym, "female", "65-79")], shares)[pseudonym]


def write(stores: Stores, header: RecordingHeader, chunks: Iterator[WindowChunk]) -> WindowSet:
    stores.warehouse.ensure_feature_version(SPEC)
    slots = tuple("" if i is None else header.leads[i] for i in choose_leads(header.leads, SPEC))
    stores.warehouse.write_recording(
        header, patient=add_patient(stores, header.patient_key), source_key=header.name, spec=SPEC, lead_slots=slots,
        r_peak_source="annotations", label_source="simulator", suspect_inverted=list, now=START, chunks=chunks,
    )  # fmt: skip
    return stores.warehouse.window_sets(SPEC.digest, recordings=[header.name])[0]


def add_source(stores: Stores, source: SignalSource, name: str) -> WindowSet:
    """A recording cut as ingest does it."""
    header = replace(source.header, name=name, start_time=START, checksum=name, simulated=False)
    return write(stores, header, cut_windows(source, SPEC, block_s=900))


def add_square_wave(stores: Stores, name: str = "square", seconds: int = 30) -> WindowSet:
    """A recording with a beat a second, whose first lead is 0 mV for half a second, 1 mV for the next, and so on."""
    rate = int(SPEC.sampling_rate_hz)
    second = np.concatenate([np.zeros(rate // 2, np.int16), np.full(rate // 2, 1000, np.int16)])
    signal = np.stack([np.tile(second, seconds), np.zeros(rate * seconds, np.int16)], axis=1)
    beats = np.arange(1, seconds - 1)
    cut = [signal[i * rate - SPEC.before_samples : i * rate + SPEC.after_samples] for i in beats]
    n = len(beats)
    windows = Windows(
        beat_index=np.arange(n), r_peak_s=beats.astype(np.float64), samples=np.stack(cut),
        lead_mask=np.ones((n, 2), bool),
        rr=np.ones((n, len(RR_COLUMNS)), np.float32), template=np.zeros((n, SPEC.window_samples, 2), np.int16),
        template_beats=np.zeros(n, np.int16), quality=np.full(n, 0.9, np.float32), symbol=np.full(n, "N"),
        aami_class=np.full(n, "N"),
    )  # fmt: skip
    header = RecordingHeader(
        name, "csv", f"{name}.csv", name, float(rate), ("MLII", "V1"), rate * seconds, checksum=name, start_time=START
    )
    chunk = WindowChunk(windows, [UnusableSpan(seconds - 1.5, float(seconds), "edge")], [], signal)  # type: ignore[arg-type]
    return write(stores, header, iter([chunk]))


def add_day(stores: Stores, source: SignalSource, name: str, hours: float = 24.0) -> WindowSet:
    """A day of ECG: one recording's windows and signal, over and over."""
    (chunk,) = list(cut_windows(source, SPEC, block_s=1e6))
    rate = SPEC.sampling_rate_hz
    assert chunk.signal is not None
    length_s = len(chunk.signal) / rate
    n_beats = int(chunk.windows.beat_index[-1]) + 2
    times = int(np.ceil(hours * 3600 / length_s))
    header = replace(
        source.header, name=name, start_time=START, checksum=name, patient_key=name,
        n_samples=int(times * length_s * source.header.sampling_rate_hz),
    )  # fmt: skip

    def again() -> Iterator[WindowChunk]:
        for i in range(times):
            windows = replace(
                chunk.windows, beat_index=chunk.windows.beat_index + i * n_beats,
                r_peak_s=chunk.windows.r_peak_s + i * length_s,
            )  # fmt: skip
            spans = [replace(s, start_s=s.start_s + i * length_s, end_s=s.end_s + i * length_s) for s in chunk.unusable]
            yield WindowChunk(windows, spans, [], chunk.signal)

    return write(stores, header, again())


def add_scores(stores: Stores, model_version: int, window_set: WindowSet, every: int = 7) -> int:
    """Scores all windows; each `every`-th is flagged, later ones higher. Returns how many are."""
    block = stores.warehouse.read_block(SPEC, *window_set.id_range(0, 1 << 24))
    score = np.full(len(block), 0.5, np.float32)
    flagged = np.arange(len(block)) % every == every - 1
    score[flagged] = 2 + np.arange(flagged.sum()) / 100
    run = stores.results.start_run(model_version, len(block), 0)
    scored = BlockScores(score, score >= THRESHOLD, np.zeros(len(block), np.int16))
    stores.results.write_scores(run, model_version, window_set, block, scored)
    stores.results.summarise(model_version, window_set, 72.0, 1)
    return int(flagged.sum())


def add_reader(stores: Stores, name: str, role: str = "reviewer", site: str = "main") -> str:
    """An API key of that name, role and site."""
    key = new_key()
    stores.results.add_key(
        {
            "key_id": key.key_id, "site": site, "secret_sha256": key.secret_sha256, "name": name, "role": role,
            "scopes": list(SCOPES_OF_ROLE[role]), "patients": None,
            "expires_at": datetime.now(UTC) + timedelta(days=365 * 100),
        }
    )  # fmt: skip
    return key.text
