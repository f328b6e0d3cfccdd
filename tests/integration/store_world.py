"""Made-up recordings, models and scores in both databases, with numbers that a test can foresee."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from configs.contract import FeatureSpec
from warehouse.signal.ecg import Reason, RecordingHeader, RejectedBeat, UnusableSpan, WindowChunk, Windows
from warehouse.store import Stores
from warehouse.store.records import BlockScores, WindowSet
from warehouse.store.window_block import WindowBlock

SPEC = FeatureSpec()
START = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)
RR_S = 0.75


def add_recording(
    stores: Stores,
    name: str,
    n_beats: int,
    *,
    label: str = "N",
    rejected: int = 0,
    before_commit: Callable[[], None] = lambda: None,
) -> WindowSet:
    """A recording with a beat every 0.75 s from 1 s on; its last `rejected` beats gave no window."""
    patients = stores.warehouse.ensure_patients([(f"of {name}", "female", "40-64")], {"test": 1.0})
    shape = (n_beats, SPEC.window_samples, SPEC.n_leads)
    samples = np.random.default_rng(n_beats).integers(-32768, 32768, shape).astype(np.int16)
    windows = Windows(
        beat_index=np.arange(n_beats),
        r_peak_s=1 + np.arange(n_beats) * RR_S,
        samples=samples,
        lead_mask=np.arange(n_beats)[:, None] % 3 != np.arange(2),
        rr=np.full((n_beats, 5), RR_S, np.float32) + np.arange(5, dtype=np.float32),
        template=samples[::-1].copy(),
        template_beats=np.arange(n_beats, dtype=np.int16),
        quality=np.linspace(0, 1, n_beats, dtype=np.float32),
        symbol=np.full(n_beats, label),
        aami_class=np.full(n_beats, label),
    )
    beats = [RejectedBeat(n_beats + i, 1 + (n_beats + i) * RR_S, Reason.EDGE, "N") for i in range(rejected)]
    duration_s = 2 + (n_beats + rejected) * RR_S
    header = RecordingHeader(
        name, "wfdb", name, "p", 360.0, ("MLII", "V1"), int(duration_s * 360), f"checksum {name}", start_time=START
    )
    stores.warehouse.ensure_feature_version(SPEC)

    def chunks() -> Iterator[WindowChunk]:
        yield WindowChunk(windows, [UnusableSpan(0.0, 0.5, Reason.EDGE)], beats)
        before_commit()

    stores.warehouse.write_recording(
        header, patient=patients[f"of {name}"], source_key=name, spec=SPEC, lead_slots=["MLII", "V1"],
        r_peak_source="annotations", label_source="reference", suspect_inverted=list, now=START,
        chunks=chunks(),
    )  # fmt: skip
    (window_set,) = stores.warehouse.window_sets(SPEC.digest, recordings=[name])
    return window_set


def read(stores: Stores, window_set: WindowSet) -> WindowBlock:
    return stores.warehouse.read_block(SPEC, *window_set.id_range(0, window_set.n_beats))


def add_model(stores: Stores, version: int) -> int:
    model = {
        "model_version": version, "model_name": "m", "feature_version": SPEC.digest, "threshold": 1.5, "digest": "d",
        "feature_spec": SPEC.model_dump(mode="json"), "data_span": 1, "run_key": "r", "card": {"version": version},
    }  # fmt: skip
    stores.results.register_model(model)
    return stores.results.start_run(version, 0, 0)


def scored(values: npt.ArrayLike, threshold: float = 1.5) -> BlockScores:
    score = np.asarray(values, dtype=np.float32)
    return BlockScores(score, score >= threshold, (np.arange(len(score)) % 2).astype(np.int16))


def table(store: Any, table: sa.Table, model_version: int) -> list[dict[str, Any]]:
    """A model version's rows of a table of the results, by primary key."""
    query = sa.select(table).where(table.c.model_version == model_version).order_by(*table.primary_key.columns)
    with store.transaction() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
