"""`python -m pipelines.train`: trains on the warehouse through the whole TFX pipeline and pushes a blessed model."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from components.datasheet import build_datasheet
from components.lineage import code_digest, git_revision
from components.model_card import build_card
from configs import cli
from configs.cards import write_documents
from configs.command_metrics import CommandMetrics, command_metrics
from configs.contract import SPLITS, FeatureSpec
from configs.errors import DataInvalidError, NotBlessedError, NotFoundError
from configs.settings import Settings, load_settings
from pipelines.reference import describe, write_reference
from pipelines.stages import find_error, lineage_of_last_run, logs_to, outputs_of_last_run
from serving.model_files import EXTRA, model_digest, write_card
from warehouse.reviewer_labels import deliver_labels
from warehouse.store import Stores, open_stores
from warehouse.store.records import DataSpan, ModelVersion, SpanChoice

#: What a version's lineage takes from its recordings.
_LINEAGE = ("window_set_id", "site", "pseudonym", "recording_id", "recording", "checksum", "split")


class Runner(StrEnum):
    """What runs the stages."""

    LOCAL = "local"
    KUBEFLOW = "kubeflow"


@dataclass(frozen=True)
class Trained:
    """What a run gave: the pushed version (None for a smoke run), its metrics, and seconds a stage."""

    model_version: int | None
    reused: bool
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]


def main(
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="A few windows and one epoch, nothing pushed: finds bugs before hours are spent."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Train although data, code and configuration have not changed, and take no stage from cache.",
        ),
    ] = False,
    list_runs: Annotated[
        bool, typer.Option("--list", help="List past runs with configuration, data span, metrics and artifacts.")
    ] = False,
    list_trials: Annotated[
        int | None, typer.Option("--list-trials", min=1, help="List the trials of this run's search, best first.")
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(min=0, help="Instead of search.trials: search hyper-parameters first, in so many trials."),
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Feature version to train on; default: the configured geometry's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of training.epochs.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of training.seed.")] = None,
    runner: Annotated[
        Runner, typer.Option(help="local runs it here; kubeflow writes it for Kubeflow Pipelines, and runs nothing.")
    ] = Runner.LOCAL,
    image: Annotated[
        str, typer.Option(help="With kubeflow: image that the steps run in (Dockerfile.pipeline).")
    ] = "ecg-pipeline:latest",
    pipeline_root: Annotated[
        str, typer.Option(help="With kubeflow: where the cluster keeps artifacts, such as gs://bucket/ecg.")
    ] = "/pipeline",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result (or, with --list, the runs) here.")
    ] = None,
) -> None:
    """Train on the warehouse: validate the data, fit, evaluate against the gates and the last model, push.

    Exit codes: 0 pushed (or nothing had changed), 2 bad configuration, 3 data invalid, 4 trained but not blessed,
    5 a database or the disk is not available.
    """
    chosen = "smoke" if smoke and profile is None else profile
    settings = load_settings(chosen, {"training": {"epochs": epochs, "seed": seed}, "search": {"trials": tune}})
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        if list_runs:
            show_runs(stores.results.training_runs(), json_file)
            return
        if list_trials is not None:
            show_trials(list_trials, stores.results.training_runs(limit=None), json_file)
            return
        if runner is Runner.KUBEFLOW:
            file = compile_for_kubeflow(settings, stores, image, pipeline_root, feature_version=features)
            cli.note(f"Written: {file}. Upload it to Kubeflow Pipelines; docs/scaling.md says what the cluster needs")
            return
        with command_metrics("train_smoke" if smoke else "train", settings.monitoring) as measured:
            trained = train(settings, stores, push=not smoke, force=force, feature_version=features)
            _measure(measured, trained)
        stable = stores.results.release().stable if trained.model_version else None
    cli.write_json(json_file, trained.__dict__)
    if trained.model_version is None:
        cli.note("Smoke run passed; nothing was pushed. Next: python -m pipelines.train")
    else:
        cli.note(f"Model version {trained.model_version} is in {settings.models_dir}. {_next_step(trained, stable)}")


def _measure(measured: CommandMetrics, trained: Trained) -> None:
    for stage, seconds in trained.seconds.items():
        measured.set("ecg_train_last_stage_seconds", "Wall time of a stage in the last run.", seconds, stage=stage)
    for metric, value in trained.metrics.items():
        measured.set("ecg_train_last_test_metric", "On the test split, of what it trained.", value, metric=metric)


def _next_step(trained: Trained, stable: int | None) -> str:
    version = trained.model_version
    if version == stable:
        return "Next: python -m pipelines.score"
    return f"Version {stable} still serves. Next: python -m serving.release shadow {version}, or promote {version}"


@dataclass(frozen=True)
class _Plan:
    """What a run is about to do."""

    settings: Settings
    span: DataSpan
    spec: FeatureSpec
    config: Mapping[str, Any]
    models: Sequence[ModelVersion]  # pushed before, of this geometry, newest first
    champion: ModelVersion | None
    push: bool
    force: bool

    @property
    def run_key(self) -> str:
        """Of data, code and configuration: same key, same model."""
        content = {"span": self.span.digest, "config": self.config, "code": code_digest()}
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def home(self) -> Path:
        """Where this model's runs, metadata, logs and schemas are."""
        return self.settings.data_dir.resolve() / "tfx" / self.settings.training.model_name

    @property
    def schema_dir(self) -> Path:
        """Where the versions v1, v2, ... of this geometry's curated schema are."""
        return self.home / "schemas" / self.spec.digest

    @property
    def curated_schema(self) -> Path | None:
        """The newest version; None before the first run."""
        versions = self.schema_dir.glob("v*/schema.pbtxt")
        return max(versions, key=lambda path: int(path.parent.name[1:]), default=None)

    @property
    def pushed_before(self) -> ModelVersion | None:
        """The newest version that came from this very plan and is still where it was pushed."""
        for model in self.models:
            pushed = self.settings.models_dir / model.model_name / str(model.model_version) / "saved_model.pb"
            if model.run_key == self.run_key and pushed.is_file():
                return model
        return None


def train(
    settings: Settings,
    stores: Stores,
    *,
    push: bool = True,
    force: bool = False,
    feature_version: str | None = None,
    choice: SpanChoice | None = None,
) -> Trained:
    """Runs the training pipeline on what the warehouse holds now.

    Args:
        push: put a blessed model where it is served from, and register it.
        force: train although nothing has changed since the newest model, and take no stage from cache.
        feature_version: of the windows to train on; the configured geometry's when None.
        choice: which of them, whatever training.max_windows says; all when None.

    Raises:
        DataInvalidError: no data, too little, or data that the schema refuses.
        NotBlessedError: the model did not pass its gates; says which.
    """
    version = feature_version or settings.features.digest
    deliver_labels(stores)
    span = stores.warehouse.freeze_span(
        version, 0 if choice else settings.training.max_windows, settings.training.reviewed_windows, choice
    )
    _check_splits(span)
    config = {
        "training": settings.training.model_dump(mode="json"),
        "evaluation": settings.evaluation.model_dump(mode="json"),
        "feature_version": version,
    }
    if settings.search.trials:
        config["search"] = settings.search.model_dump(mode="json")
    spec = stores.warehouse.feature_spec(version)
    models = [model for model in stores.results.models() if model.feature_version == version]
    plan = _Plan(settings, span, spec, config, models, _champion(stores, models), push, force)
    if push and not force and (current := plan.pushed_before) is not None:
        cli.note(f"Nothing has changed since model version {current.model_version}: not trained again (--force does).")
        return Trained(current.model_version, True, current.card["metrics"], {})
    limit = f", at most {settings.training.max_windows} a split" if settings.training.max_windows else ""
    n_recordings = len(span.content["window_sets"])
    cli.note(f"Training on data span {span.span}: {span.n_windows} windows of {n_recordings} recordings{limit}")
    run_id = stores.results.start_training_run(
        {
            "run_key": plan.run_key,
            "data_span": span.span,
            "config": config,
            "code_revision": f"{code_digest()} {git_revision()}",
        }
    )
    record: dict[str, Any] = {"seconds": {}}
    try:
        trained = _run(plan, stores, record)
    except BaseException as error:
        known: dict[type[BaseException], str] = {DataInvalidError: "data_invalid", NotBlessedError: "not_blessed"}
        status = known.get(type(error), "failed")
        stores.results.finish_training_run(run_id, {**record, "status": status, "error": str(error) or repr(error)})
        raise
    status = "pushed" if trained.model_version else "blessed"
    stores.results.finish_training_run(run_id, {**record, "status": status, "model_version": trained.model_version})
    return trained


def compile_for_kubeflow(
    settings: Settings, stores: Stores, image: str, pipeline_root: str, *, feature_version: str | None = None
) -> Path:
    """Writes the pipeline that `train` would run now as a Kubeflow Pipelines job; returns the file.

    The span is frozen, so the cluster trains on what the warehouse holds at this moment.

    Raises:
        DataInvalidError: there is no curated schema yet: the first run of a geometry is a local one.
    """
    from pipelines.kubeflow import compile_pipeline
    from pipelines.training_pipeline import PipelineHome, create_pipeline

    version = feature_version or settings.features.digest
    span = stores.warehouse.freeze_span(version, settings.training.max_windows)
    _check_splits(span)
    plan = _Plan(settings, span, stores.warehouse.feature_spec(version), {}, (), None, push=True, force=False)
    if plan.curated_schema is None:
        raise DataInvalidError(
            f"feature version {version}", "has no curated schema yet", "Run `python -m pipelines.train --smoke` first."
        )
    name = settings.training.model_name
    home = PipelineHome(
        name, Path(pipeline_root), Path("metadata.sqlite"), settings.scoring.beam_args, enable_cache=True
    )
    pipeline = create_pipeline(
        home,
        span=span,
        spec=plan.spec,
        training=settings.training,
        searching=settings.search,
        evaluation=settings.evaluation,
        serving=settings.serving,
        schema_file=plan.curated_schema,
        baseline_uri=None,
        push_dir=Path(pipeline_root) / "models" / name,
    )
    file = Path("build/kubeflow") / f"{name}.json"
    compile_pipeline(pipeline, pipeline_root=pipeline_root, image=image, file=file)
    return file


def _run(plan: _Plan, stores: Stores, record: dict[str, Any]) -> Trained:
    """Runs the stages and registers what was pushed; fills `record` as far as it gets."""
    log_path = plan.home / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.log"
    with logs_to(log_path, cli.note) as seconds, _warehouse_for_workers(stores.warehouse.url):
        record["seconds"] = seconds
        outputs = _run_stages(plan, log_path)

        from pipelines.training_outcome import read_outcome

        outcome = read_outcome(outputs)
        record |= {"metrics": outcome.metrics, "artifacts": outcome.artifacts, "config": _as_trained(plan, outcome)}
        if not outcome.blessed:
            raise NotBlessedError(
                "model", "trained but not blessed:\n  " + "\n  ".join(outcome.failures), "The last pushed model stays."
            )
        if outcome.pushed_version is not None:
            _register(plan, stores, outcome)
    return Trained(outcome.pushed_version, False, outcome.metrics, seconds)


def _run_stages(plan: _Plan, log_path: Path) -> dict[tuple[str, str], Any]:
    """Runs the TFX pipeline, after the one that infers the schema where there is none; its outputs by stage and key."""
    from pipelines.training_pipeline import PipelineHome, create_pipeline, create_schema_pipeline

    settings, name = plan.settings, plan.settings.training.model_name
    plan.home.mkdir(parents=True, exist_ok=True)
    home = PipelineHome(
        name, plan.home / "runs", plan.home / "metadata.sqlite", settings.scoring.beam_args, enable_cache=not plan.force
    )
    schema_file = plan.curated_schema
    if schema_file is None:
        from components.schema import save_curated

        outputs = _execute(create_schema_pipeline(home, span=plan.span, training=settings.training), home, log_path)
        schema_file = plan.schema_dir / "v1" / "schema.pbtxt"
        save_curated(Path(outputs["SchemaGen", "schema"].uri) / "schema.pbtxt", schema_file, plan.spec)
        cli.note(f"First run: the schema inferred from this data is now {schema_file}")
    pipeline = create_pipeline(
        home,
        span=plan.span,
        spec=plan.spec,
        training=settings.training,
        searching=settings.search,
        evaluation=settings.evaluation,
        serving=settings.serving,
        schema_file=schema_file,
        baseline_uri=_baseline_uri(plan),
        push_dir=settings.models_dir.resolve() / name if plan.push else None,
    )
    return _execute(pipeline, home, log_path)


def _execute(pipeline: Any, home: Any, log_path: Path) -> dict[tuple[str, str], Any]:
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    try:
        LocalDagRunner().run(pipeline)
    except Exception as error:
        known = find_error(error)
        if known is None:
            cli.note(f"The log of this run is {log_path}")
            raise
        raise known from error
    return outputs_of_last_run(home.metadata_path)


def _baseline_uri(plan: _Plan) -> str | None:
    """The champion's model artifact, which the new model must not be worse than."""
    if plan.champion is None or not plan.push:
        return None
    uri = plan.champion.card["artifacts"]["Trainer.model"]
    if Path(uri).is_dir():
        return str(uri)
    cli.note(f"{uri} is gone: the new model cannot be compared with version {plan.champion.model_version}")
    return None


@contextmanager
def _warehouse_for_workers(url: str) -> Iterator[None]:
    """Tells Beam's workers where the warehouse is: see components.example_gen."""
    saved = os.environ.get("ECG_WAREHOUSE_URL")
    os.environ["ECG_WAREHOUSE_URL"] = url
    try:
        yield
    finally:
        if saved is None:
            del os.environ["ECG_WAREHOUSE_URL"]
        else:
            os.environ["ECG_WAREHOUSE_URL"] = saved


def _as_trained(plan: _Plan, outcome: Any) -> dict[str, Any]:
    """The configuration with what a search chose."""
    return {**plan.config, "training": plan.config["training"] | outcome.calibration["hyperparameters"]}


def _register(plan: _Plan, stores: Stores, outcome: Any) -> None:
    """Writes model card and data sheet beside the pushed model, and both with its lineage into the results database."""
    settings, spec, version = plan.settings, plan.spec, outcome.pushed_version
    name = settings.training.model_name
    directory = settings.models_dir / name / str(version)
    sources, used = stores.warehouse.span_sources(plan.span), stores.warehouse.windows_used(plan.span)
    card = _card(plan, outcome)
    sheet = build_datasheet(
        plan.span, sources, stores.warehouse.span_losses(plan.span), used, spec.model_dump(mode="json")
    )
    write_card(directory, name, version, card)
    write_documents(directory / EXTRA, "datasheet", f"Data sheet of {name}, version {version}", sheet)
    reference = write_reference(
        settings, stores, plan.span, spec, directory, threshold=outcome.calibration["threshold"]
    )
    cli.note(f"Drift reference: {describe(reference)}")
    stores.results.register_model(
        {
            "model_version": version,
            "model_name": name,
            "feature_version": spec.digest,
            "feature_spec": spec.model_dump(mode="json"),
            "threshold": outcome.calibration["threshold"],
            "digest": model_digest(directory),
            "data_span": plan.span.span,
            "run_key": plan.run_key,
            "card": card,
            "datasheet": sheet,
        },
        [{"n_windows": used[source["window_set_id"]], **{key: source[key] for key in _LINEAGE}} for source in sources],
    )


def _card(plan: _Plan, outcome: Any) -> dict[str, Any]:
    schema_file = plan.curated_schema
    assert schema_file is not None  # a run curates one before it trains
    return build_card(
        model_name=plan.settings.training.model_name,
        model_version=outcome.pushed_version,
        data_span=plan.span.__dict__,
        feature_spec=plan.spec.model_dump(mode="json"),
        config=_as_trained(plan, outcome),
        code_digest=code_digest(),
        git_revision=git_revision(),
        calibration=outcome.calibration,
        metrics=outcome.metrics,
        slices=outcome.slices,
        artifacts=outcome.artifacts,
        software={
            package: metadata.version(package) for package in ("tensorflow", "tfx", "keras", "apache-beam", "numpy")
        },
        schema={
            "version": int(schema_file.parent.name[1:]),
            "sha256": sha256(schema_file.read_bytes()).hexdigest(),
            "file": str(schema_file),
        },
        stages=lineage_of_last_run(plan.home / "metadata.sqlite"),
        baseline=None if plan.champion is None else plan.champion.model_version,
    )


def _check_splits(span: DataSpan) -> None:
    counts = dict.fromkeys(SPLITS, 0)
    for entry in span.content["window_sets"]:
        counts[entry["split"]] += entry["n_windows"]
    empty = [split for split, n in counts.items() if n == 0]
    if empty:
        raise DataInvalidError(
            f"feature version {span.content['feature_version']}",
            f"has no windows of patients in the {' and '.join(empty)} split",
            "Ingest recordings of at least three patients: python -m warehouse.ingest SOURCE...",
        )


def _champion(stores: Stores, models: Sequence[ModelVersion]) -> ModelVersion | None:
    """What a new model is compared with: the stable version, or for another geometry than its, the newest of that."""
    if not models:
        return None
    stable = stores.results.release().stable
    return next((model for model in models if model.model_version == stable), models[0])


def show_runs(runs: list[dict[str, Any]], json_file: Path | None) -> None:
    """Prints past runs as a table, or writes them whole to a file."""
    cli.write_json(json_file, runs)
    table = Table(
        "run", "started", "status", "data span", "epochs", "seed", "ROC-AUC", "AP", "model version", "artifacts"
    )
    for run in runs:
        metrics = run["metrics"] or {}
        artifacts = run["artifacts"] or {}
        table.add_row(
            str(run["run_id"]),
            f"{run['started_at']:%Y-%m-%d %H:%M:%S}",
            run["status"],
            str(run["data_span"]),
            str(run["config"]["training"]["epochs"]),
            str(run["config"]["training"]["seed"]),
            f"{metrics.get('roc_auc', float('nan')):.4f}",
            f"{metrics.get('average_precision', float('nan')):.4f}",
            str(run["model_version"] or ""),
            artifacts.get("Trainer.model_run", ""),
        )
    cli.show(table)
    if not runs:
        cli.note("No runs yet. Next: python -m pipelines.train")


def show_trials(run_id: int, runs: list[dict[str, Any]], json_file: Path | None) -> None:
    """Prints the trials of a run's search, best first.

    Raises:
        NotFoundError: there is no such run, it did not search, or its artifacts are gone.
    """
    run = next((run for run in runs if run["run_id"] == run_id), None)
    if run is None:
        raise NotFoundError(f"run {run_id}", "is not there", "List the runs: python -m pipelines.train --list")
    uri = (run["artifacts"] or {}).get("Tuner.tuner_results")
    file = Path(uri) / "tuner_results.json" if uri else None
    if file is None or not file.is_file():
        reason = "made no search" if file is None else f"has left no trials: {file} is gone"
        raise NotFoundError(f"run {run_id}", reason, "Search with python -m pipelines.train --tune N")
    trials = json.loads(file.read_text("utf-8"))
    cli.write_json(json_file, trials)
    keys = [key for key in trials[0] if key not in ("trial_id", "score")]
    table = Table("trial", run["config"]["search"]["objective"], *keys)
    for trial in trials:
        table.add_row(trial["trial_id"], f"{trial['score']:.4f}", *(str(trial[key]) for key in keys))
    cli.show(table)


if __name__ == "__main__":
    cli.run(main)
