"""`python -m pipelines.score`: scores the windows that have no score for a model version yet."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from configs import cli, contract
from configs.command_metrics import CommandMetrics, command_metrics
from configs.contract import FeatureSpec
from configs.errors import EXIT_DATA, NotFoundError, RequestError
from configs.settings import Settings, load_settings
from monitoring.database_metrics import DatabaseMetrics
from monitoring.http import serve_metrics_if_free
from monitoring.metrics import new_registry
from pipelines.scoring_blocks import ScoringJob, one_thread_an_operation
from pipelines.stages import find_error, logs_to
from serving.connect import ModelSource, call_policy
from serving.model_files import verified_dir
from warehouse.store import Stores, open_stores
from warehouse.store.records import ModelVersion, Release, WindowSet, iter_id_ranges
from warehouse.store.results import Results
from warehouse.summaries import SummaryRules, apply_own_thresholds, summarise, summary_rules

_OTHERS_S = 0.5  # between looks at blocks that another scorer has


@dataclass(frozen=True)
class ScoreReport:
    """Counts of a scoring run; windows_in = scored + failed, unless another scorer took some.

    `model_version` is the stable one; a canary's windows are counted with it, those of a version in shadow apart.
    """

    model_version: int
    recordings: int
    windows_in: int
    scored: int
    failed: int
    unusable: int
    shadow_scored: int
    seconds: float


def main(
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    model_version: Annotated[
        int | None, typer.Option(help="Model version; default: the one that serves each recording.")
    ] = None,
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
    recalibrate: Annotated[
        bool,
        typer.Option("--recalibrate", help="Also decide what is scored already anew, with what was reviewed since."),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on: score what arrives, until SIGTERM or Ctrl-C. Takes no filters.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the counts here.")] = None,
) -> None:
    """Score windows of the warehouse and write scores, anomalies, episodes and summaries to the results database.

    Run again, it changes nothing. Stopped anywhere and run again, every window has exactly one score.

    Exit codes: 0 done, 2 bad configuration, 3 some windows could not be scored, 5 database, disk or model
    not available.
    """
    one_thread_an_operation()
    settings = load_settings(profile, {"scoring": {"beam_args": beam_arg or None}, "serving": {"server": server}})
    if watch and (model_version or split or recording or retry_failed or recalibrate or json_file):
        raise RequestError("--watch", "takes no filters and gives no counts", "Leave out the other options.")
    if recalibrate and settings.scoring.thresholds != "recording":
        raise RequestError(
            "--recalibrate",
            "is for thresholds that follow the recording",
            "Set scoring.thresholds to recording (ECG_SCORING__THRESHOLDS=recording).",
        )
    if watch:
        with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
            watch_until_stopped(settings, stores)
        return
    with command_metrics("score", settings.monitoring) as metrics:
        with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
            report = score(
                settings, stores, model_version=model_version, splits=split, recordings=recording,
                retry_failed=retry_failed, recalibrate=recalibrate,
            )  # fmt: skip
        _measure(metrics, report)
        cli.write_json(json_file, asdict(report))
        cli.note(
            f"Model version {report.model_version}: {report.scored} of {report.windows_in} windows without a score "
            f"were scored in {report.seconds:.1f} s, {report.failed} failed; {report.unusable} beats were unusable."
        )
        if report.failed:
            cli.fail(f"{report.failed} windows could not be scored; table score_failures says why", EXIT_DATA)
    cli.note("Next: python -m api")


def _measure(metrics: CommandMetrics, report: ScoreReport) -> None:
    for outcome in ("windows_in", "scored", "failed", "unusable", "shadow_scored"):
        metrics.set("ecg_score_last_windows", "Windows of the last run.", getattr(report, outcome), outcome=outcome)


def watch_until_stopped(settings: Settings, stores: Stores) -> None:
    """Scores what arrives until SIGTERM or Ctrl-C, which end the process with exit code 0 after the block under way."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    registry = new_registry(settings.data_dir)
    DatabaseMetrics(registry).watch(stores)
    chosen = settings.monitoring
    served = serve_metrics_if_free(registry, chosen.host, chosen.scorer_port, "monitoring.scorer_port")
    with served, logs_to(_log_path(settings)):
        from pipelines.watch import Watcher

        scored = Watcher(settings, stores, cli.note, registry).run(stop)
    cli.note(f"Stopped; {scored} windows were scored")


def score(
    settings: Settings,
    stores: Stores,
    *,
    model_version: int | None = None,
    splits: Sequence[str] | None = None,
    recordings: Sequence[str] | None = None,
    retry_failed: bool = False,
    recalibrate: bool = False,
) -> ScoreReport:
    """Scores what has no score, and summarises the recordings that changed.

    With the version that serves each recording, and apart from that with the version in shadow; or with one version.

    Raises:
        ModelUnavailableError: there is no such model, or its files are not what was pushed.
        NotFoundError: a recording asked for is not in the warehouse.
    """
    started = time.monotonic()
    release = stores.results.release()
    stable = stores.results.models(model_version or release.stable)[0]
    wanted = stores.warehouse.window_sets(
        stable.feature_version, splits=splits or contract.SPLITS, recordings=recordings or None
    )
    missing = set(recordings or ()) - {s.recording for s in wanted}
    if missing:
        raise NotFoundError(
            f"recording {', '.join(sorted(missing))}", "is not in the warehouse in the model's geometry"
        )
    tasks = [Task(stable, wanted)] if model_version else assign(stores, release, stable, wanted)
    reports = [_score_task(settings, stores, task, retry_failed=retry_failed) for task in tasks]
    if recalibrate:
        cli.note(f"{recalibrate_verdicts(stores, tasks, summary_rules(settings.scoring))} verdicts changed")
    shown = [report for task, report in zip(tasks, reports, strict=True) if not task.shadow]
    return ScoreReport(
        model_version=stable.model_version,
        recordings=len(wanted),
        windows_in=sum(report["windows_in"] for report in shown),
        scored=sum(report["scored"] for report in shown),
        failed=sum(report["failed"] for report in shown),
        unusable=sum(s.n_rejected for s in wanted),
        shadow_scored=sum(report["scored"] for task, report in zip(tasks, reports, strict=True) if task.shadow),
        seconds=time.monotonic() - started,
    )


def recalibrate_verdicts(stores: Stores, tasks: Sequence["Task"], rules: SummaryRules) -> int:
    """Decides the verdicts of recordings anew, with what was reviewed by now; returns how many changed."""
    changed = 0
    for task in tasks:
        if task.shadow:
            continue
        for window_set in task.sets:
            changed += apply_own_thresholds(stores.warehouse, stores.results, task.model, window_set)
            summarise(stores.warehouse, stores.results, task.model.model_version, window_set, rules)
    return changed


@dataclass(frozen=True)
class Task:
    """Window sets that one version is to score; in shadow, or as what is shown."""

    model: ModelVersion
    sets: Sequence[WindowSet]
    shadow: bool = False


def assign(stores: Stores, release: Release, stable: ModelVersion, sets: Sequence[WindowSet]) -> list[Task]:
    """Which version scores which window sets: stable, canary, shadow. A version of another geometry gets none."""
    models = {stable.model_version: stable}
    models |= {v: stores.results.models(v)[0] for v in (release.canary, release.shadow) if v is not None}
    by_version: dict[int, list[WindowSet]] = {}
    for window_set in sets:
        by_version.setdefault(release.version_for(window_set.recording), []).append(window_set)
    tasks = [Task(models[version], chosen) for version, chosen in by_version.items()]
    if release.shadow is not None and models[release.shadow].feature_version == stable.feature_version:
        tasks.append(Task(models[release.shadow], sets, shadow=True))
    return tasks


def _score_task(settings: Settings, stores: Stores, task: Task, *, retry_failed: bool) -> dict[str, int]:
    """Scores what of a task is pending; returns the run's counts."""
    started = time.monotonic()
    version = task.model.model_version
    source = model_source(settings, task.model)
    if retry_failed:
        stores.results.forget_failures(version, task.sets)
    pending = find_pending(stores.results, task)
    windows_in = sum(left for _, left in pending)
    run_id = stores.results.start_run(version, windows_in, sum(s.n_rejected for s in task.sets), shadow=task.shadow)
    try:
        if windows_in:
            sets = [s for s, left in pending if left]
            with _progress(stores.results, run_id, windows_in), logs_to(_log_path(settings)):
                _run_pipeline(settings, stores, task, source, run_id, sets)
        if not task.shadow:
            summarised = stores.results.finished_window_sets(version)
            for window_set, _ in pending:
                if summarised.get(window_set.window_set_id) != window_set.n_windows:
                    rules = summary_rules(settings.scoring)
                    summarise(stores.warehouse, stores.results, version, window_set, rules)
    except BaseException as error:
        stores.results.finish_run(run_id, seconds=time.monotonic() - started, error=str(error) or repr(error))
        raise
    stores.results.finish_run(run_id, seconds=time.monotonic() - started)
    run = stores.results.run(run_id)
    return {"windows_in": windows_in, "scored": run["scored"], "failed": run["failed"]}


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


def find_pending(results: Results, task: Task) -> list[tuple[WindowSet, int]]:
    """Window sets that are not summarised with all their windows, and how many windows each has left."""
    version, shadow = task.model.model_version, task.shadow
    finished = {} if shadow else results.finished_window_sets(version)
    pending = []
    for window_set in task.sets:
        if finished.get(window_set.window_set_id) == window_set.n_windows:
            continue
        first, stop = window_set.id_range(0, window_set.n_beats)
        left = window_set.n_windows - results.done_count(version, first, stop, shadow=shadow)
        if left or not shadow:
            pending.append((window_set, left))
    return pending


def scoring_job(
    settings: Settings, stores: Stores, task: Task, source: ModelSource, run_id: int, sets: Mapping[int, WindowSet]
) -> ScoringJob:
    """What workers need to score these window sets, given by id."""
    return ScoringJob(
        warehouse_url=stores.warehouse.url,
        results_url=stores.results.url,
        source=source,
        spec=FeatureSpec.model_validate(task.model.feature_spec).model_dump(mode="json"),
        run_id=run_id,
        sets=sets,
        rules=summary_rules(settings.scoring),
        shadow=task.shadow,
    )


def plan_blocks(settings: Settings, results: Results, task: Task, sets: Sequence[WindowSet]) -> int:
    """Puts the blocks of window sets into the queue; returns how many these are."""
    blocks = [
        (window_set.window_set_id, first, stop)
        for window_set in sets
        for first, stop in iter_id_ranges(window_set, settings.scoring.block_windows)
    ]
    results.plan_work(task.model.model_version, shadow=task.shadow, blocks=blocks)
    return len(blocks)


def _run_pipeline(
    settings: Settings, stores: Stores, task: Task, source: ModelSource, run_id: int, sets: Sequence[WindowSet]
) -> None:
    """Scores until none of the blocks is left; those that another scorer has are waited for, or taken when it dies."""
    from pipelines.scoring_pipeline import run_scoring

    n_blocks = plan_blocks(settings, stores.results, task, sets)
    queue: dict[str, Any] = {"shadow": task.shadow, "window_set_ids": [s.window_set_id for s in sets]}
    job = scoring_job(settings, stores, task, source, run_id, {s.window_set_id: s for s in sets})
    while stores.results.work_left(task.model.model_version, **queue):
        if not stores.results.work_free(task.model.model_version, **queue):
            time.sleep(_OTHERS_S)
            continue
        try:
            run_scoring(job, n_blocks, settings.scoring.beam_args)
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
