"""A training run: freezes the data, runs the TFX stages, and registers what was pushed."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.lineage import code_digest, git_revision
from configs import cli
from configs.contract import FeatureSpec
from configs.errors import DataInvalidError, NotBlessedError
from configs.settings import Settings
from pipelines.registration import as_trained, register
from pipelines.stages import find_error, logs_to, outputs_of_last_run
from pipelines.training_plan import Plan, check_splits, find_champion
from warehouse.reviewer_labels import deliver_labels
from warehouse.store import Stores
from warehouse.store.records import DataSpan, SpanChoice


@dataclass(frozen=True)
class Trained:
    """What a run gave: the pushed version (None for a smoke run), its metrics, and seconds a stage."""

    model_version: int | None
    reused: bool
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]


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
        NotFoundError: nothing was ingested with this feature version.
        DataInvalidError: a split without patients, too little data, or data that the schema refuses.
        NotBlessedError: the model did not pass its gates; says which.
    """
    version = feature_version or settings.features.digest
    span, spec = _freeze(settings, stores, version, choice)
    config = {
        "training": settings.training.model_dump(mode="json"),
        "evaluation": settings.evaluation.model_dump(mode="json"),
        "feature_version": version,
    }
    if settings.search.trials:
        config["search"] = settings.search.model_dump(mode="json")
    models = [model for model in stores.results.models() if model.feature_version == version]
    plan = Plan(settings, span, spec, config, models, find_champion(stores, models), push, force)
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

    The span is frozen, so the cluster trains on what the warehouse holds at this moment. The curated schema is written
    beside the job, to be copied into the pipeline root, where the job reads it: no path of this machine is in it.

    Raises:
        NotFoundError: nothing was ingested with this feature version.
        DataInvalidError: there is no curated schema yet: the first run of a geometry is a local one.
    """
    from pipelines.kubeflow import compile_pipeline
    from pipelines.training_pipeline import PipelineHome

    version = feature_version or settings.features.digest
    span, spec = _freeze(settings, stores, version, None)
    plan = Plan(settings, span, spec, {}, (), None, push=True, force=False)
    if plan.curated_schema is None:
        raise DataInvalidError(
            f"feature version {version}", "has no curated schema yet", "Run `python -m pipelines.train --smoke` first."
        )
    name = settings.training.model_name
    home = PipelineHome(
        name, Path(pipeline_root), Path("metadata.sqlite"), settings.scoring.beam_args, enable_cache=True
    )
    root, folder = pipeline_root.rstrip("/"), Path("build/kubeflow")
    schema = plan.curated_schema.relative_to(plan.home)
    pipeline = _pipeline(plan, home, f"{root}/{schema}", None, f"{root}/models/{name}")
    compile_pipeline(pipeline, pipeline_root=root, image=image, file=folder / f"{name}.json")
    (folder / schema).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plan.curated_schema, folder / schema)
    cli.note(f"Written: {folder / name}.json, for Kubeflow Pipelines; docs/scaling.md says what the cluster needs")
    cli.note(f"Copy {folder / schema} to {root}/{schema} before it runs")
    return folder / f"{name}.json"


def _freeze(
    settings: Settings, stores: Stores, version: str, choice: SpanChoice | None
) -> tuple[DataSpan, FeatureSpec]:
    """What the warehouse holds now for a run, and its geometry."""
    spec = stores.warehouse.feature_spec(version)
    deliver_labels(stores)
    span = stores.warehouse.freeze_span(
        version, 0 if choice else settings.training.max_windows, settings.training.reviewed_windows, choice
    )
    check_splits(span)
    return span, spec


def _run(plan: Plan, stores: Stores, record: dict[str, Any]) -> Trained:
    """Runs the stages and registers what was pushed; fills `record` as far as it gets."""
    log_path = plan.home / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.log"
    with logs_to(log_path, cli.note) as seconds, _warehouse_for_workers(stores.warehouse.url):
        record["seconds"] = seconds
        outputs = _run_stages(plan, log_path)

        from pipelines.training_outcome import read_outcome

        outcome = read_outcome(outputs)
        record |= {"metrics": outcome.metrics, "artifacts": outcome.artifacts, "config": as_trained(plan, outcome)}
        if not outcome.blessed:
            raise NotBlessedError(
                "model", "trained but not blessed:\n  " + "\n  ".join(outcome.failures), "The last pushed model stays."
            )
        if outcome.pushed_version is not None:
            register(plan, stores, outcome)
    return Trained(outcome.pushed_version, False, outcome.metrics, seconds)


def _run_stages(plan: Plan, log_path: Path) -> dict[tuple[str, str], Any]:
    """Runs the TFX pipeline, after the one that infers the schema where there is none; its outputs by stage and key."""
    from pipelines.training_pipeline import PipelineHome, create_schema_pipeline

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
    push_dir = str(settings.models_dir.resolve() / name) if plan.push else None
    pipeline = _pipeline(plan, home, str(schema_file), _baseline_uri(plan), push_dir)
    return _execute(pipeline, home, log_path)


def _pipeline(plan: Plan, home: Any, schema_file: str, baseline_uri: str | None, push_dir: str | None) -> Any:
    """The TFX pipeline of a plan, for any runner."""
    from pipelines.training_pipeline import create_pipeline

    settings = plan.settings
    return create_pipeline(
        home,
        span=plan.span,
        spec=plan.spec,
        training=settings.training,
        searching=settings.search,
        evaluation=settings.evaluation,
        serving=settings.serving,
        schema_file=schema_file,
        baseline_uri=baseline_uri,
        push_dir=push_dir,
    )


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


def _baseline_uri(plan: Plan) -> str | None:
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
