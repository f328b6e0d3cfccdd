"""Speed of scoring: end to end over the bare model, at one and at sixteen times the data."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.settings import Settings
from pipelines.score import model_source, score
from serving.connect import open_client
from serving.model_client import ModelClient
from warehouse.signal.ecg import RecordingHeader, WindowChunk, Windows
from warehouse.store import Stores
from warehouse.store import tables as t
from warehouse.store.records import ModelVersion
from warehouse.store.window_block import WindowBlock

TIMES = 16

Array = npt.NDArray[Any]


def bench_scoring(settings: Settings, demo: Stores, scratch: Stores, repeats: int) -> dict[str, Any]:
    """Windows a second from warehouse to committed results, over the bare model on the same windows in memory.

    Args:
        demo: holds the model and the recordings.
        scratch: new and empty; takes sixteen copies of the recordings.
    """
    model = demo.results.models(demo.results.release().stable)[0]
    scratch.results.register_model({key: value for key, value in vars(model).items() if key != "registered_at"})
    blocks = copy_recordings(demo, scratch, model, times=TIMES)
    n = sum(len(block) for block in blocks)
    client = open_client(model_source(settings, model))
    inputs = [block.model_inputs() for block in blocks]
    once = [f"copy 0 {i}" for i in range(len(blocks))]
    score(settings, scratch, recordings=once[:1])  # imports, the model's first calls
    client.score(inputs[0])
    bare, end_to_end, single = [], [], []
    for _ in range(repeats):
        bare.append(TIMES * n / _seconds(lambda: _all_copies(client, inputs)))
        _forget(scratch)
        single.append(n / _seconds(lambda: score(settings, scratch, recordings=once)))
        _forget(scratch)
        end_to_end.append(TIMES * n / _seconds(lambda: score(settings, scratch)))
    return {
        "score_windows_per_s": spread(end_to_end),
        "bare_model_windows_per_s": spread(bare),
        "score_over_bare_model": spread([e / b for e, b in zip(end_to_end, bare, strict=True)]),
        "cost_16x_over_1x": spread([s / e for s, e in zip(single, end_to_end, strict=True)]),
    }


def scored_windows(demo: Stores, model: ModelVersion) -> list[WindowBlock]:
    """The demo's recordings, a block each."""
    spec = demo.warehouse.feature_spec(model.feature_version)
    sets = demo.warehouse.window_sets(model.feature_version)
    return [demo.warehouse.read_block(spec, *s.id_range(0, s.n_beats)) for s in sets]


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest of repeated measurements."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "n": len(values)}


def copy_recordings(demo: Stores, scratch: Stores, model: ModelVersion, *, times: int) -> list[WindowBlock]:
    """Copies the demo's recordings so many times, under other names; returns their windows, a block a recording."""
    spec = demo.warehouse.feature_spec(model.feature_version)
    scratch.warehouse.ensure_feature_version(spec)
    patient = scratch.warehouse.ensure_patients([("bench", "unknown", "unknown")], {"test": 1.0})["bench"]
    blocks = scored_windows(demo, model)
    for copy in range(times):
        for i, block in enumerate(blocks):
            name = f"copy {copy} {i}"
            seconds = float(block.r_peak_s[-1]) + 2
            header = RecordingHeader(
                name, "wfdb", name, "bench", 360.0, ("MLII", "V1"), int(seconds * 360), checksum=name,
                start_time=datetime(2026, 1, 1, tzinfo=UTC),
            )  # fmt: skip
            scratch.warehouse.write_recording(
                header, patient=patient, source_key=name, spec=spec, lead_slots=("MLII", "V1"), r_peak_source="bench",
                label_source="reference", suspect_inverted=list, now=datetime.now(UTC), chunks=[_as_chunk(block)],
            )  # fmt: skip
    return blocks


def _as_chunk(block: WindowBlock) -> WindowChunk:
    known = {name: getattr(block, name) for name in Windows.__dataclass_fields__ if hasattr(block, name)}
    labels = block.aami_class.astype("U1")
    return WindowChunk(Windows(**known | {"beat_index": np.arange(len(block)), "symbol": labels, "aami_class": labels}))


def _all_copies(client: ModelClient, inputs: Sequence[Mapping[str, Any]]) -> None:
    for _ in range(TIMES):
        for values in inputs:
            client.score(values)


def _forget(stores: Stores) -> None:
    with stores.results.transaction() as connection:
        for table in (t.scores, t.anomalies, t.episodes, t.recording_summaries, t.score_failures):
            connection.execute(table.delete())


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
