"""`make bench`: how fast this machine moves windows, each figure beside a peer or a limit of the same run."""

import json
import os
import shutil
import statistics
import subprocess
import sys
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

from configs import cli, contract
from configs.contract import FeatureSpec
from configs.errors import EXIT_UNEXPECTED, ModelUnavailableError, RequestError
from configs.settings import Settings, load_settings
from pipelines.demo import HOME
from pipelines.speed_batching import bench_batching
from pipelines.speed_clients import bench_clients
from pipelines.speed_holter import bench_holter
from pipelines.speed_limits import LIMITS, median_of
from pipelines.speed_releases import bench_releases
from pipelines.speed_scoring import bench_scoring, scored_windows, spread
from pipelines.training_run import train
from warehouse.ingest import ingest
from warehouse.signal.ecg import WindowChunk
from warehouse.signal.readers import find_sources
from warehouse.signal.simulate import simulate_recording
from warehouse.signal.windows import cut_windows
from warehouse.store import Stores, open_stores

OUTPUT = Path("build/bench.json")
PARTS = ("copy", "ingest", "scoring", "clients", "batching", "releases", "holter", "training", "peers", "service")
PEERS_PYTHON = Path(".venv-peers/bin/python")
_PEERS_TRAIN = 4000  # normal windows the peers learn from: their speed does not depend on it


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Times each figure is measured; the median is shown.")] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this part (see above); may be given again. Default: all.")
    ] = None,
    grpc: Annotated[str | None, typer.Option(help="TensorFlow Serving with the demo's model, by gRPC.")] = None,
    rest: Annotated[str | None, typer.Option(help="The same by REST, http://HOST:8501.")] = None,
    json_file: Annotated[Path, typer.Option("--json", help="Write the figures here.")] = OUTPUT,
) -> None:
    """Measure this machine; needs the model and windows that `make demo` left in build/demo.

    Parts: copy (windows into and out of PostgreSQL), ingest (with ECG_MITDB_DIR), scoring, clients (one window through
    each model client), batching (what batches gain, by size and by many clients), releases (promotion and rollback
    under load), holter (24 hours), training (what TFX adds), peers (after `make peers`), service (the REST API).
    All of it takes some ten minutes, and 3 GB of disk for a while. A part that fails is told at the end, and the others
    are measured.

    Exit codes: 0 all was measured, 1 a part failed, 2 no such part, 5 there is no model or no windows.
    """
    began = time.perf_counter()
    settings = load_settings(overrides={"data_dir": HOME / "data"})
    if not (HOME / "data" / "postgres").is_dir():
        raise ModelUnavailableError(
            str(HOME), "holds no windows and no model", "Run `make demo ARGS=--no-serve` first."
        )
    chosen = set(only or PARTS)
    if unknown := chosen - set(PARTS):
        raise RequestError(f"--only {', '.join(sorted(unknown))}", "is no part", f"Parts: {', '.join(PARTS)}.")
    figures: dict[str, Any] = {"load_before": os.getloadavg()[0], "cores": os.cpu_count()}
    failed: dict[str, str] = {}
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    scratch.chmod(0o755)  # the embedded server runs as another user when this is root
    servers = {name: address for name, address in (("grpc", grpc), ("rest", rest)) if address is not None}
    try:
        with open_stores(None, None, settings.data_dir) as demo:
            parts: dict[str, Callable[[], dict[str, Any]]] = {
                "copy": lambda: _in_scratch(scratch / "copy", lambda s: bench_copy(s, settings.features, repeats)),
                "ingest": lambda: bench_ingest(settings, scratch / "ingest") if settings.mitdb_dir else {},
                "scoring": lambda: _in_scratch(
                    scratch / "scoring", lambda s: bench_scoring(settings, demo, s, repeats)
                ),
                "clients": lambda: bench_clients(settings, demo, servers),
                "batching": lambda: bench_batching(settings, demo, servers),
                "releases": lambda: bench_releases(settings, demo, scratch / "releases", repeats),
                "holter": lambda: bench_holter(settings, demo, scratch),
                "training": lambda: bench_training(settings, demo),
                "service": lambda: bench_service(settings, scratch),
                "peers": lambda: bench_peers(settings, demo, scratch, figures["score_windows_per_s"]["median"]),
            }
            for name in PARTS:
                if name not in chosen:
                    continue
                if name == "peers" and not (PEERS_PYTHON.is_file() and "score_windows_per_s" in figures):
                    cli.note("peers: left out (they need `make peers`, and the part scoring)")
                    continue
                started = time.perf_counter()
                try:
                    figures |= parts[name]()
                except Exception as error:  # noqa: BLE001 - whatever it is, the other parts can be measured
                    failed[name] = f"{type(error).__name__}: {error}"
                    cli.note(f"{name} failed: {failed[name]}")
                cli.note(f"{name}: {time.perf_counter() - started:.0f} s")
                cli.write_json(json_file, figures | {"failed": failed})  # what there is, if the next part is killed
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    figures["load_after"] = os.getloadavg()[0]
    if chosen == set(PARTS):
        figures["bench_seconds"] = time.perf_counter() - began
    cli.write_json(json_file, figures | {"failed": failed})
    cli.show(_table(figures))
    cli.note(
        f"Figures: {json_file}. Load of the machine before and after: {figures['load_before']:.1f}, "
        f"{figures['load_after']:.1f}; other work makes them worse."
    )
    if failed:
        told = "".join(f"\n  {name}: {reason}" for name, reason in failed.items())
        cli.fail(f"{len(failed)} of {len(chosen)} parts failed:{told}", EXIT_UNEXPECTED)


def _table(figures: dict[str, Any]) -> Table:
    """Figures with their limits; what should be there and is not is said."""
    table = Table("figure", "median", "lowest", "highest", "limit", "")
    for name, figure in figures.items():
        value, limit = median_of(figure), LIMITS.get(name)
        if value is None:
            continue
        spread_of = [f"{figure[key]:,.2f}" for key in ("lowest", "highest")] if isinstance(figure, dict) else ["", ""]
        table.add_row(
            name,
            f"{value:,.2f}",
            *spread_of,
            "" if limit is None else str(limit),
            limit.verdict(value) if limit else "",
        )
    for name in LIMITS.keys() - figures.keys():
        table.add_row(name, "-", "", "", str(LIMITS[name]), "not measured")
    return table


def _in_scratch(data_dir: Path, part: Callable[[Stores], dict[str, Any]]) -> dict[str, Any]:
    """Runs a part on databases of its own."""
    data_dir.mkdir()
    with open_stores(None, None, data_dir) as stores:
        return part(stores)


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
        "copy_in_windows_per_s": spread(copy_in),
        "copy_out_windows_per_s": spread(copy_out),
        "copy_in_over_execute_values": spread([ratio]),
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
        columns = "id bigint, r float8, s bytea, t bytea, " + ", ".join(f"{name} real" for name in contract.RR_COLUMNS)
        connection.execute(sa.text(f"CREATE TEMP TABLE peer ({columns}) ON COMMIT DROP"))
        execute_values(connection.connection.cursor(), "INSERT INTO peer VALUES %s", rows, page_size=1000)


def bench_ingest(settings: Settings, data_dir: Path) -> dict[str, Any]:
    """Seconds to ingest all records of ECG_MITDB_DIR, from files to committed windows."""
    sources, _ = find_sources([str(settings.mitdb_dir)])
    local = settings.model_copy(update={"data_dir": data_dir})
    with open_stores(None, None, data_dir) as stores:
        seconds = _seconds(lambda: ingest(sources, local, stores))
        hours = sum(s.duration_s for s in stores.warehouse.window_sets(settings.features.digest)) / 3600
    return {"ingest_seconds": spread([seconds]), "ingest_hours_of_ecg_per_minute": spread([hours / seconds * 60])}


def bench_training(settings: Settings, demo: Stores) -> dict[str, Any]:
    """Seconds of the whole TFX pipeline on the demo's data, beyond those of its Trainer, which is Keras alone.

    Nothing is pushed, and no stage comes from cache.
    """
    started = time.perf_counter()
    trained = train(settings, demo, push=False, force=True)
    total = time.perf_counter() - started
    return {
        "tfx_pipeline_seconds": spread([total]),
        "tfx_overhead_seconds": spread([total - trained.seconds["Trainer"]]),
    }


def bench_peers(settings: Settings, demo: Stores, scratch: Path, score_windows_per_s: float) -> dict[str, Any]:
    """Scoring end to end over other detectors that score the same windows from memory (`make peers`)."""
    model = demo.results.models(demo.results.release().stable)[0]
    blocks = scored_windows(demo, model)
    windows = np.concatenate([block.model_inputs()[contract.SAMPLES] for block in blocks])
    normal = np.concatenate([block.aami_class == b"N" for block in blocks])
    data, out = scratch / "windows.npz", scratch / "peers.npz"
    np.savez(data, train=windows[normal][:_PEERS_TRAIN], test=windows)
    command = [str(PEERS_PYTHON), "pipelines/peers.py", "--data", str(data), "--out", str(out)]
    subprocess.run([*command, "--peers", "outlier_ae,autoencoder", "--seed", "1"], check=True)
    found = np.load(out)
    return {
        f"score_over_{name}": spread([score_windows_per_s / float(found[f"{peer}_windows_per_second"])])
        for name, peer in (("alibi", "outlier_ae"), ("pyod", "autoencoder"))
    }


def bench_service(settings: Settings, scratch: Path) -> dict[str, Any]:
    """The figures of `python -m api.benchmark`, in a process of its own: the service's code is none of this one's."""
    file = scratch / "service.json"
    command = [sys.executable, "-m", "api.benchmark", "--data-dir", str(settings.data_dir), "--json", str(file)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {name: value for name, value in figures.items() if name not in ("cores", "load_before", "load_after")}


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    cli.run(main)
