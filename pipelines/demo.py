"""`make demo`: the whole path on real ECG, from files to a served API, in one command."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from rich.table import Table

from configs import cli
from configs.contract import TEST
from configs.errors import DataInvalidError, NotBlessedError, UnavailableError
from configs.settings import Settings, load_settings
from pipelines.score import score
from pipelines.training_run import train
from warehouse.ingest import Source, ingest
from warehouse.signal.download import fetch_mitdb
from warehouse.signal.readers import find_sources
from warehouse.signal.simulate import simulate_cohort
from warehouse.store import Stores, open_stores

HOME = Path("build/demo")

#: Six MIT-BIH records of six patients, and the split of each: the two to score were never trained on.
SPLITS = {"101": "train", "115": "train", "122": "train", "106": "calibration", "100": "test", "200": "test"}
SIMULATED_SPLITS = ("train", "train", "train", "calibration", "test", "test")


@dataclass(frozen=True)
class DemoData:
    """What the demo runs on: recordings, their splits, and where they are from in one line."""

    kind: str
    why: str
    sources: Sequence[Source]
    splits: Mapping[str, str]


def main(
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End after the report; do not serve the API.")] = False,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Ingest six recordings, train through the TFX pipeline, score two that were held out, show what was found, serve.

    Data: the folder in ECG_MITDB_DIR, else a download from PhysioNet, else the simulator. Everything it makes is under
    build/demo; a second run reuses what has not changed. Decision support for review, not a diagnosis.
    """
    settings = load_settings(profile)
    if "data_dir" not in settings.model_fields_set:
        settings = load_settings(profile, {"data_dir": HOME / "data"})
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        summary = run_demo(settings, stores, HOME / "summary.json")
    cli.note(
        f"Summary: {HOME / 'summary.json'}. Model card: {settings.models_dir}/*/{summary['model_version']}/assets.extra"
    )
    if no_serve:
        cli.note("Next: make demo (serves the API), or read docs/ and ingest recordings of your own.")
        return
    from api.__main__ import serve

    cli.note(f"Serving http://{settings.api.host}:{settings.api.port}/ui and /docs until Ctrl-C")
    serve(settings)


def run_demo(settings: Settings, stores: Stores, summary_path: Path) -> dict[str, Any]:
    """Runs the path and writes the summary, also when the model is not blessed.

    Raises:
        EcgError: a stage failed.
    """
    seconds: dict[str, float] = {}
    summary: dict[str, Any] = {"seconds": seconds}
    with _timed(seconds, "data"):
        data = choose_data(settings)
    summary["data_source"] = data.kind
    cli.note(f"Data: {data.kind} ({data.why})")
    with _timed(seconds, "ingest"):
        report = ingest(data.sources, settings, stores, splits_by_name=data.splits)
    if report.failed:
        raise DataInvalidError("demo data", f"{report.failed} recordings could not be ingested", report.failures[0])
    cli.note(f"Ingested: {report.added} recordings added, {report.unchanged} unchanged ({seconds['ingest']:.1f} s)")
    summary |= stores.warehouse.totals(settings.features.digest)
    try:
        with _timed(seconds, "train"):
            trained = train(settings, stores)
    except NotBlessedError:
        cli.write_json(summary_path, summary | {"model_version": None, "blessed": False})
        raise
    seconds |= {f"train.{stage}": value for stage, value in trained.seconds.items()}
    release = stores.results.release()
    if trained.model_version != release.stable:  # trained anew: the demo shows what it trained
        stores.results.add_release(
            release,
            {
                "operator": "demo",
                "action": "promote",
                "model_version": trained.model_version,
                "reason": "trained by the demo",
                "stable": trained.model_version,
                "previous": release.stable,
            },
        )
    with _timed(seconds, "score"):
        scored = score(settings, stores, model_version=trained.model_version, splits=[TEST])
    cli.note(
        f"Scored {scored.scored} of {scored.windows_in} new windows of held-out recordings ({seconds['score']:.1f} s)"
    )
    summary |= {"model_version": trained.model_version, "blessed": True}
    summary |= judge(stores, scored.model_version, settings.features.digest)
    show_top(stores, scored.model_version, settings.features.digest)
    cli.write_json(summary_path, summary)
    return summary


def choose_data(settings: Settings) -> DemoData:
    """The first of: local folder, download, simulator."""
    if settings.mitdb_dir is not None:
        sources, failures = find_sources([str(settings.mitdb_dir / name) for name in SPLITS])
        if failures:
            raise failures[0]
        return DemoData("mitdb-local", f"ECG_MITDB_DIR is {settings.mitdb_dir}", sources, SPLITS)
    cache = settings.data_dir / "cache" / "mitdb"
    try:
        with httpx.Client(timeout=httpx.Timeout(30, connect=5), follow_redirects=True) as client:
            folder = fetch_mitdb(list(SPLITS), cache, client=client, report=cli.note)
        sources, _ = find_sources([str(folder / name) for name in SPLITS])
        return DemoData("mitdb-download", "MIT-BIH Arrhythmia Database from PhysioNet, ODC-By 1.0", sources, SPLITS)
    except UnavailableError as error:
        cohort = simulate_cohort(len(SIMULATED_SPLITS), duration_s=600, sampling_rate_hz=360, seed=1)
        splits = {source.header.name: split for source, split in zip(cohort, SIMULATED_SPLITS, strict=True)}
        return DemoData("simulator", f"ECG_MITDB_DIR is not set and {error.problem}", cohort, splits)


def judge(stores: Stores, model_version: int, feature_version: str) -> dict[str, Any]:
    """Ranks of the stored scores against the reference labels of the held-out recordings, and counts."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    sets = stores.warehouse.window_sets(feature_version, splits=[TEST])
    spec = stores.warehouse.feature_spec(feature_version)
    labels, scores = [], []
    for window_set in sets:
        block = stores.warehouse.read_block(spec, *window_set.id_range(0, window_set.n_beats))
        window_id, score_of = stores.results.scores_of(model_version, window_set)
        assert np.array_equal(window_id, block.window_id), "scoring gives every window exactly one score"
        known = block.aami_class != b"U"
        labels.append(block.aami_class[known] != b"N")
        scores.append(score_of[known])
    truth, value = np.concatenate(labels), np.concatenate(scores)
    both = bool(truth.any()) and not bool(truth.all())
    model = stores.results.models(model_version)[0]
    return {
        "roc_auc": float(roc_auc_score(truth, value)) if both else None,
        "average_precision": float(average_precision_score(truth, value)) if both else None,
        "threshold": model.threshold,
        "anomalies": int(sum(s["anomalous"] for s in _summaries(stores, model_version, sets))),
        "held_out": {
            s["recording"]: {
                key: s[key] for key in ("beats", "scored", "unusable", "anomalous", "episodes", "analysable_s")
            }
            for s in _summaries(stores, model_version, sets)
        },
    }


def _summaries(stores: Stores, model_version: int, sets: Sequence[Any]) -> list[dict[str, Any]]:
    return stores.results.summaries({s.recording_id for s in sets}, model_version)


def show_top(stores: Stores, model_version: int, feature_version: str) -> None:
    """Prints the ten most anomalous beats of the held-out recordings."""
    sets = stores.warehouse.window_sets(feature_version, splits=[TEST])
    table = Table("recording", "time", "lead", "score", "reference", title="Ten most anomalous held-out beats")
    for beat in stores.results.most_anomalous(model_version, sets, 10):
        table.add_row(beat["recording"], clock(beat["r_peak_s"]), beat["lead"], f"{beat['score']:.2f}", beat["label"])
    cli.show(table)


def clock(seconds: float) -> str:
    """Seconds from the recording's start as h:mm:ss.mmm."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{seconds - whole // 60 * 60:06.3f}"


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        seconds[stage] = round(time.monotonic() - started, 2)


if __name__ == "__main__":
    cli.run(main)
