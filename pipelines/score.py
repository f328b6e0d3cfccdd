"""`python -m pipelines.score`: scores the windows that have no score for a model version yet."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from configs import cli, contract
from configs.contract import FeatureSpec
from configs.errors import EXIT_DATA, NotFoundError
from configs.settings import Settings, load_settings
from pipelines.stages import find_error, logs_to
from serving.connect import ModelSource, call_policy
from serving.model_files import verified_dir
from warehouse.store import Stores, open_stores
from warehouse.store.records import ModelVersion, WindowSet, iter_id_ranges
from warehouse.store.results import Results


@dataclass(frozen=True)
class ScoreReport:
    """Counts of a scoring run; windows_in = scored + failed, unless another scorer took some."""

    model_version: int
    recordings: int
    windows_in: int
    scored: int
    failed: int
    unusable: int
    seconds: float


def main(
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    model_version: Annotated[int | None, typer.Option(help="Model version; default: the newest pushed.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only patients of this split; may be given again.")] = None,
    recording: Annotated[
        list[str] | None, typer.Option(help="Only recordings of this name; may be given again.")
    ] = None,
    beam_arg: Annotated[
        list[str] | None,
        typer.Option(
            help="Beam option instead of scoring.beam_args, e.g. --beam-arg=--runner=FlinkRunner; may be given again."
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(help="Model server instead of serving.server: grpc://HOST:8500 or http://HOST:8501."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try windows again that could not be scored before.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the counts here.")] = None,
) -> None:
    """Score windows of the warehouse and write scores, anomalies, episodes and summaries to the results database.

    Run again, it changes nothing. Stopped anywhere and run again, every window has exactly one score.

    Exit codes: 0 done, 2 bad configuration, 3 some windows could not be scored, 5 database, disk or model
    not available.
    """
    settings = load_settings(profile, {"scoring": {"beam_args": beam_arg or None}, "serving": {"server": server}})
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        report = score(
            settings, stores, model_version=model_version, splits=split, recordings=recording, retry_failed=retry_failed
        )
    cli.write_json(json_file, asdict(report))
    cli.note(
        f"Model version {report.model_version}: {report.scored} of {report.windows_in} windows without a score "
        f"were scored in {report.seconds:.1f} s, {report.failed} failed; {report.unusable} beats were unusable."
    )
    if report.failed:
        cli.fail(f"{report.failed} windows could not be scored; table score_failures says why", EXIT_DATA)
    cli.note("Next: python -m api")


def score(
    settings: Settings,
    stores: Stores,
    *,
    model_version: int | None = None,
    splits: Sequence[str] | None = None,
    recordings: Sequence[str] | None = None,
    retry_failed: bool = False,
) -> ScoreReport:
    """Scores what has no score for a model version, and summarises the recordings that changed.

    Raises:
        ModelUnavailableError: there is no such model, or its files are not what was pushed.
        NotFoundError: a recording asked for is not in the warehouse.
    """
    started = time.monotonic()
    model = (
        stores.results.models(model_version)[0]
        if model_version
        else stores.results.latest_model(settings.features.digest)
    )
    source = model_source(settings, model)
    spec = FeatureSpec.model_validate(model.feature_spec)
    sets = stores.warehouse.window_sets(
        model.feature_version, splits=splits or contract.SPLITS, recordings=recordings or None
    )
    missing = set(recordings or ()) - {s.recording for s in sets}
    if missing:
        raise NotFoundError(
            f"recording {', '.join(sorted(missing))}", "is not in the warehouse in the model's geometry"
        )
    if retry_failed:
        stores.results.forget_failures(model.model_version, sets)
    pending = _pending(stores.results, model.model_version, sets)
    windows_in = sum(left for _, left in pending)
    unusable = sum(s.n_rejected for s in sets)
    run_id = stores.results.start_run(model.model_version, windows_in, unusable)
    try:
        if windows_in:
            with _progress(stores.results, run_id, windows_in), logs_to(_log_path(settings)):
                _run_pipeline(settings, stores, source, spec, run_id, [s for s, left in pending if left])
        for window_set, _ in pending:
            rate = stores.warehouse.mean_heart_rate_bpm(window_set)
            stores.results.summarise(model.model_version, window_set, rate, settings.scoring.episode_gap_beats)
    except BaseException as error:
        stores.results.finish_run(run_id, seconds=time.monotonic() - started, error=str(error) or repr(error))
        raise
    stores.results.finish_run(run_id, seconds=time.monotonic() - started)
    run = stores.results.run(run_id)
    return ScoreReport(
        model.model_version, len(sets), windows_in, run["scored"], run["failed"], unusable, time.monotonic() - started
    )


def model_source(settings: Settings, model: ModelVersion) -> ModelSource:
    """Where a version is asked: on the server that the settings name, else in the process, from verified files.

    Raises:
        ModelUnavailableError: it is to run here, and its files are not what was pushed.
    """
    server = settings.serving.server
    here = settings.models_dir / model.model_name / str(model.model_version)
    return ModelSource(
        model_name=model.model_name,
        model_version=model.model_version,
        directory=here if server else verified_dir(settings.models_dir, model),
        server=server,
        batch_size=settings.scoring.batch_size,
        policy=call_policy(settings.serving),
    )


def _pending(results: Results, model_version: int, sets: Sequence[WindowSet]) -> list[tuple[WindowSet, int]]:
    """Window sets that are not summarised with all their windows, and how many windows each has left."""
    finished = results.finished_window_sets(model_version)
    pending = []
    for window_set in sets:
        if finished.get(window_set.window_set_id) == window_set.n_windows:
            continue
        first, stop = window_set.id_range(0, window_set.n_beats)
        pending.append((window_set, window_set.n_windows - results.done_count(model_version, first, stop)))
    return pending


def _run_pipeline(
    settings: Settings,
    stores: Stores,
    source: ModelSource,
    spec: FeatureSpec,
    run_id: int,
    sets: Sequence[WindowSet],
) -> None:
    from pipelines.scoring_pipeline import BlockRange, ScoringJob, run_scoring

    job = ScoringJob(
        warehouse_url=stores.warehouse.url,
        results_url=stores.results.url,
        source=source,
        spec=spec.model_dump(mode="json"),
        run_id=run_id,
    )
    ranges = [
        BlockRange(window_set, first, stop)
        for window_set in sets
        for first, stop in iter_id_ranges(window_set, settings.scoring.block_windows)
    ]
    try:
        run_scoring(job, ranges, settings.scoring.beam_args)
    except Exception as error:
        known = find_error(error)
        if known is None:
            raise
        raise known from error


@contextlib.contextmanager
def _progress(results: Results, run_id: int, total: int) -> Iterator[None]:
    """A progress bar fed by what is committed; asks the database twice a second, and not at all without a terminal."""
    with cli.progress() as bar:
        if bar.disable:
            yield
            return
        task = bar.add_task("score", total=total)
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(0.5):
                run = results.run(run_id)
                bar.update(task, completed=run["scored"] + run["failed"])

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            stop.set()
            follower.join()


def _log_path(settings: Settings) -> Path:
    return settings.data_dir.resolve() / "logs" / "score.log"


if __name__ == "__main__":
    cli.run(main)
