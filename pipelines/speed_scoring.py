"""Speed of scoring: end to end over the bare model, and what a window costs at one and at sixteen times the data."""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from configs.settings import Settings, load_settings
from pipelines.score import model_source, score
from pipelines.scoring_blocks import one_thread_an_operation
from serving.connect import open_client
from serving.model_client import ModelClient
from warehouse.signal.ecg import RecordingHeader, WindowChunk, Windows
from warehouse.store import Stores, open_stores
from warehouse.store import tables as t
from warehouse.store.records import ModelVersion
from warehouse.store.window_block import WindowBlock

TIMES = 16
MANY = 64  # copies to be scored end to end: what a run takes to begin is little of it then

Array = npt.NDArray[Any]


def bench_scoring(settings: Settings, demo: Stores, scratch: Stores, repeats: int) -> dict[str, Any]:
    """Windows a second from warehouse to committed results, over the bare model on the same windows in memory.

    Scoring runs in a process of its own, for `python -m pipelines.score` sets TensorFlow's threads before it is loaded;
    the bare model has them as TensorFlow makes them. What it does with a thread a core is measured beside that.

    Args:
        demo: holds the model and the recordings.
        scratch: new and empty; takes so many copies of the recordings.
    """
    model = demo.results.models(demo.results.release().stable)[0]
    scratch.results.register_model({key: value for key, value in vars(model).items() if key != "registered_at"})
    blocks = copy_recordings(demo, scratch, model, times=MANY)
    with scratch.warehouse.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in ("VACUUM ANALYZE windows", "CHECKPOINT"):  # now, not beside what is measured
            connection.execute(sa.text(statement))
    n = sum(len(block) for block in blocks)
    client = open_client(model_source(settings, model))
    inputs = [block.model_inputs() for block in blocks]
    client.score(inputs[0])
    bare, thread_a_core, end_to_end, single, sixteen = [], [], [], [], []
    with _scorer(settings.data_dir, scratch) as seconds_of:
        for _ in range(repeats):
            bare.append(MANY * n / _seconds(lambda: _all_copies(client, inputs)))
            _forget(scratch)
            single.append(n / seconds_of("once"))
            _forget(scratch)
            sixteen.append(TIMES * n / seconds_of("sixteen"))
            _forget(scratch)
            end_to_end.append(MANY * n / seconds_of("all"))
            thread_a_core.append(MANY * n / seconds_of("model"))
    return {
        "score_windows_per_s": spread(end_to_end),
        "bare_model_windows_per_s": spread(bare),
        "score_over_bare_model": spread([e / b for e, b in zip(end_to_end, bare, strict=True)]),
        "bare_model_thread_a_core_windows_per_s": spread(thread_a_core),
        "cost_16x_over_1x": spread([s / e for s, e in zip(single, sixteen, strict=True)]),
    }


@contextlib.contextmanager
def _scorer(data_dir: Path, scratch: Stores) -> Iterator[Callable[[str], float]]:
    """A process that scores; gives what tells it what to measure (see `_serve`), and returns the seconds."""
    command = [
        sys.executable,
        "-m",
        "pipelines.speed_scoring",
        str(data_dir),
        scratch.warehouse.url,
        scratch.results.url,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def seconds_of(what: str) -> float:
            print(what, file=asked, flush=True)
            return float(answers.readline())

        yield seconds_of
        asked.close()


def _serve(data_dir: str, warehouse_url: str, results_url: str) -> None:
    """Reads what to measure, line by line, and writes the seconds.

    `once`: scoring the recordings; `sixteen`: so many copies of them; `all`: all copies; `model`: it alone on these,
    called by a thread a core.
    """
    one_thread_an_operation()
    settings = load_settings(overrides={"data_dir": Path(data_dir)})
    with open_stores(warehouse_url, results_url, settings.data_dir) as scratch:
        model = scratch.results.models()[0]
        client = open_client(model_source(settings, model))
        names = [window_set.recording for window_set in scratch.warehouse.window_sets(model.feature_version)]
        sixteen = [name for name in names if int(name.split()[1]) < TIMES]
        once = [name for name in names if name.startswith("copy 0 ")]
        inputs = [block.model_inputs() for block in scored_windows(scratch, model, once)]
        client.score(inputs[0])
        score(settings, scratch, recordings=once[:1])  # imports
        measured: dict[str, Callable[[], object]] = {
            "once": lambda: score(settings, scratch, recordings=once),
            "sixteen": lambda: score(settings, scratch, recordings=sixteen),
            "all": lambda: score(settings, scratch),
            "model": lambda: _by_thread_a_core(client, inputs),
        }
        for line in sys.stdin:
            print(_seconds(measured[line.strip()]), flush=True)


def _by_thread_a_core(client: ModelClient, inputs: Sequence[Mapping[str, Any]]) -> None:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(client.score, list(inputs) * MANY))


def scored_windows(stores: Stores, model: ModelVersion, recordings: Sequence[str] | None = None) -> list[WindowBlock]:
    """All recordings, or those of these names, a block each."""
    spec = stores.warehouse.feature_spec(model.feature_version)
    sets = stores.warehouse.window_sets(model.feature_version, recordings=recordings)
    return [stores.warehouse.read_block(spec, *s.id_range(0, s.n_beats)) for s in sets]


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
    for _ in range(MANY):
        for values in inputs:
            client.score(values)


def _forget(stores: Stores) -> None:
    """Empties the results; not row by row, for vacuuming these would go on beside what is measured next."""
    tables = (t.scores, t.anomalies, t.episodes, t.recording_summaries, t.score_failures)
    with stores.results.transaction() as connection:
        connection.execute(sa.text(f"TRUNCATE {', '.join(table.name for table in tables)}"))


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    _serve(*sys.argv[1:])
