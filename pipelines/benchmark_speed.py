"""`make bench`: how fast this machine moves windows, each figure beside a peer or a limit of the same run."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sqlalchemy as sa
import typer
from psycopg2.extras import execute_values
from rich.table import Table

from configs import cli
from configs.contract import FeatureSpec
from configs.errors import ModelUnavailableError
from configs.settings import Settings, load_settings
from pipelines.demo import HOME
from pipelines.score import score
from serving.model_files import version_dir
from warehouse.ingest import ingest
from warehouse.signal.ecg import WindowChunk
from warehouse.signal.readers import find_sources
from warehouse.signal.simulate import simulate_recording
from warehouse.signal.windows import cut_windows
from warehouse.store import Stores, open_stores
from warehouse.store import tables as t

OUTPUT = Path("build/bench.json")


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Times each figure is measured; the median is shown.")] = 3,
    json_file: Annotated[Path, typer.Option("--json", help="Write the figures here.")] = OUTPUT,
) -> None:
    """Measure COPY both ways, ingest, and scoring; needs the model and windows that `make demo` left in build/demo."""
    settings = load_settings(overrides={"data_dir": HOME / "data"})
    if not (HOME / "data" / "postgres").is_dir():
        raise ModelUnavailableError(
            str(HOME), "holds no windows and no model", "Run `make demo ARGS=--no-serve` first."
        )
    figures: dict[str, Any] = {}
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with open_stores(None, None, scratch) as stores:
            figures |= bench_copy(stores, settings.features, repeats)
        if settings.mitdb_dir is not None:
            figures |= bench_ingest(settings, scratch / "ingest")
        with (
            open_stores(None, None, settings.data_dir) as demo,
            open_stores(demo.warehouse.url, None, scratch) as mixed,
        ):
            figures |= bench_scoring(settings, demo, mixed, repeats)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    cli.write_json(json_file, figures)
    table = Table("figure", "median", "lowest", "highest")
    for name, figure in figures.items():
        table.add_row(name, *(f"{figure[key]:,.2f}" for key in ("median", "lowest", "highest")))
    cli.show(table)
    cli.note(f"Figures: {json_file}")


def bench_copy(stores: Stores, spec: FeatureSpec, repeats: int) -> dict[str, Any]:
    """Windows a second into and out of PostgreSQL by binary COPY, and over execute_values of the same rows."""
    source = simulate_recording(name="bench", duration_s=600, sampling_rate_hz=360, leads=("MLII", "V1"), seed=1)
    (chunk, *_) = cut_windows(source, spec, block_s=900)
    copies = 40
    n = len(chunk.windows) * copies
    many = {name: np.concatenate([getattr(chunk.windows, name)] * copies) for name in vars(chunk.windows)}
    many["beat_index"] = np.arange(n)
    big = WindowChunk(type(chunk.windows)(**many))
    stores.warehouse.ensure_feature_version(spec)
    patient = stores.warehouse.ensure_patients([("bench", "unknown", "unknown")], {"train": 1.0})["bench"]

    def write(run: int) -> None:
        stores.warehouse.write_recording(
            type(source.header)(**{**vars(source.header), "checksum": f"bench-{run}", "source_uri": f"bench-{run}"}),
            patient=patient, source_key=f"bench-{run}", spec=spec, lead_slots=("MLII", "V1"), r_peak_source="bench",
            label_source="simulator", suspect_inverted=list, now=datetime.now(UTC), chunks=[big],
        )  # fmt: skip

    copy_in = [n / _seconds(partial(write, run)) for run in range(repeats)]
    sets = stores.warehouse.window_sets(spec.digest)
    copy_out = [n / _seconds(partial(stores.warehouse.read_block, spec, *s.id_range(0, n))) for s in sets]
    values = [n / copies / _seconds(lambda: _insert_by_values(stores, many, n // copies)) for _ in range(repeats)]
    ratio = statistics.median(copy_in) / statistics.median(values)
    return {
        "copy_in_windows_per_s": _spread(copy_in),
        "copy_out_windows_per_s": _spread(copy_out),
        "copy_in_over_execute_values": _spread([ratio]),
    }


def _insert_by_values(stores: Stores, many: dict[str, Any], n: int) -> None:
    """The peer: the same window columns by psycopg2's multi-row INSERT, rolled back."""
    rows = [
        (
            i,
            many["r_peak_s"][i].item(),
            many["samples"][i].tobytes(),
            many["template"][i].tobytes(),
            *map(float, many["rr"][i]),
        )
        for i in range(n)
    ]
    with stores.warehouse.transaction() as connection:
        columns = "id bigint, r float8, s bytea, t bytea, a real, b real, c real, d real"
        connection.execute(sa.text(f"CREATE TEMP TABLE peer ({columns}) ON COMMIT DROP"))
        execute_values(connection.connection.cursor(), "INSERT INTO peer VALUES %s", rows, page_size=1000)


def bench_ingest(settings: Settings, data_dir: Path) -> dict[str, Any]:
    """Seconds to ingest all records of ECG_MITDB_DIR, from files to committed windows."""
    sources, _ = find_sources([str(settings.mitdb_dir)])
    local = settings.model_copy(update={"data_dir": data_dir})
    with open_stores(None, None, data_dir) as stores:
        seconds = _seconds(lambda: ingest(sources, local, stores))
        hours = sum(s.duration_s for s in stores.warehouse.window_sets(settings.features.digest)) / 3600
    return {"ingest_seconds": _spread([seconds]), "ingest_hours_of_ecg_per_minute": _spread([hours / seconds * 60])}


def bench_scoring(settings: Settings, demo: Stores, mixed: Stores, repeats: int) -> dict[str, Any]:
    """Windows a second from warehouse to committed results, over the bare model on the same windows in memory."""
    from serving.in_process import InProcessModelClient

    model = demo.results.latest_model()
    mixed.results.register_model({key: value for key, value in vars(model).items() if key != "registered_at"})
    client = InProcessModelClient(
        version_dir(settings.models_dir, model.model_name, model.model_version), batch_size=settings.scoring.batch_size
    )
    sets = mixed.warehouse.window_sets(model.feature_version)
    blocks = [mixed.warehouse.read_block(settings.features, *s.id_range(0, s.n_beats)) for s in sets]
    inputs = [block.model_inputs() for block in blocks]
    n = sum(len(block) for block in blocks)
    for values in inputs:  # warm: graphs traced, memory allocated
        client.score(values)
    score(settings, mixed, recordings=[sets[0].recording])
    bare, end_to_end = [], []
    for _ in range(repeats):
        bare.append(n / _seconds(lambda: [client.score(values) for values in inputs]))
        with mixed.results.transaction() as connection:
            for table in (t.scores, t.anomalies, t.episodes, t.recording_summaries, t.score_failures):
                connection.execute(table.delete())
        end_to_end.append(n / _seconds(lambda: score(settings, mixed)))
    return {
        "score_windows_per_s": _spread(end_to_end),
        "bare_model_windows_per_s": _spread(bare),
        "score_over_bare_model": _spread([e / b for e, b in zip(end_to_end, bare, strict=True)]),
    }


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "n": len(values)}


if __name__ == "__main__":
    cli.run(main)
