"""`python -m pipelines.train`: trains on the warehouse through the whole TFX pipeline and pushes a blessed model."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from components.lineage import code_digest, git_revision, model_digest
from configs import cli
from configs.contract import SPLITS
from configs.errors import DataInvalidError, EcgError, NotBlessedError
from configs.settings import Settings, load_settings
from pipelines.stages import find_error, logs_to, outputs_of_last_run
from warehouse.store import Stores, open_stores
from warehouse.store.results import ModelVersion
from warehouse.store.warehouse import DataSpan


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
    features: Annotated[
        str | None, typer.Option(help="Feature version to train on; default: the configured geometry's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of training.epochs.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of training.seed.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result (or, with --list, the runs) here.")
    ] = None,
) -> None:
    """Train on the warehouse: validate the data, fit, evaluate against the gates and the last model, push.

    Exit codes: 0 pushed (or nothing had changed), 2 bad configuration, 3 data invalid, 4 trained but not blessed,
    5 a database or the disk is not available.
    """
    chosen = "smoke" if smoke and profile is None else profile
    settings = load_settings(chosen, {"training": {"epochs": epochs, "seed": seed}})
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        if list_runs:
            show_runs(stores.results.training_runs(), json_file)
            return
        trained = train(settings, stores, push=not smoke, force=force, feature_version=features)
    cli.write_json(json_file, trained.__dict__)
    if trained.model_version is None:
        cli.note("Smoke run passed; nothing was pushed. Next: python -m pipelines.train")
    else:
        cli.note(f"Model version {trained.model_version} is in {settings.models_dir}. Next: python -m pipelines.score")


def train(
    settings: Settings, stores: Stores, *, push: bool = True, force: bool = False, feature_version: str | None = None
) -> Trained:
    """Runs the training pipeline on what the warehouse holds now.

    Args:
        push: put a blessed model where it is served from, and register it.
        force: train although nothing has changed since the newest model, and take no stage from cache.
        feature_version: of the windows to train on; the configured geometry's when None.

    Raises:
        DataInvalidError: no data, too little, or data that the schema refuses.
        NotBlessedError: the model did not pass its gates; says which.
    """
    version = feature_version or settings.features.digest
    span = stores.warehouse.freeze_span(version, settings.training.max_windows)
    _check_splits(span)
    spec = stores.warehouse.feature_spec(version)
    config = {
        "training": settings.training.model_dump(mode="json"),
        "evaluation": settings.evaluation.model_dump(mode="json"),
        "feature_version": version,
    }
    run_key = _run_key(span, config)
    champion = _newest(stores)
    if push and not force and champion is not None and _is_current(settings, champion, run_key):
        cli.note(f"Nothing has changed since model version {champion.model_version}: not trained again (--force does).")
        return Trained(champion.model_version, True, champion.card["metrics"], {})
    cli.note(
        f"Training on data span {span.span}: {span.n_windows} windows of {len(span.content['window_sets'])} recordings"
    )
    run_id = stores.results.start_training_run(
        {
            "run_key": run_key,
            "data_span": span.span,
            "config": config,
            "code_revision": f"{code_digest()} {git_revision()}",
        }
    )
    seconds: dict[str, float] = {}
    try:
        trained = _run(settings, stores, span, spec, config, run_id, run_key, champion, seconds, push, force)
    except EcgError as error:
        status = {DataInvalidError: "data_invalid", NotBlessedError: "not_blessed"}.get(type(error), "failed")
        stores.results.finish_training_run(run_id, {"status": status, "error": str(error), "seconds": seconds})
        raise
    except BaseException as error:
        stores.results.finish_training_run(run_id, {"status": "failed", "error": repr(error), "seconds": seconds})
        raise
    return trained


def _run(
    settings: Settings,
    stores: Stores,
    span: DataSpan,
    spec: Any,
    config: Mapping[str, Any],
    run_id: int,
    run_key: str,
    champion: ModelVersion | None,
    seconds: dict[str, float],
    push: bool,
    force: bool,
) -> Trained:
    name = settings.training.model_name
    home = settings.data_dir.resolve() / "tfx" / name
    metadata_path = home / "metadata.sqlite"
    log_path = home / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.log"
    schema_dir = home / "schemas" / spec.digest
    schemas = sorted(schema_dir.glob("v*/schema.pbtxt"), key=lambda path: int(path.parent.name[1:]))
    baseline = champion.card["artifacts"].get("Trainer.model") if champion is not None and push else None
    os.environ["ECG_WAREHOUSE_URL"] = stores.warehouse.url  # for Beam's workers: see components.example_gen
    with logs_to(log_path, cli.note) as stage_seconds:
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner

        from components.schema import save_curated
        from pipelines.training_outcome import read_outcome
        from pipelines.training_pipeline import create_pipeline

        home.mkdir(parents=True, exist_ok=True)
        pipeline = create_pipeline(
            name=name,
            root=home / "runs",
            metadata_path=metadata_path,
            span=span,
            spec=spec,
            training=settings.training,
            evaluation=settings.evaluation,
            schema_file=schemas[-1] if schemas else None,
            baseline_uri=baseline if baseline and Path(baseline).is_dir() else None,
            push_dir=settings.models_dir.resolve() / name if push else None,
            beam_args=settings.scoring.beam_args,
            enable_cache=not force,
        )
        try:
            LocalDagRunner().run(pipeline)
        except Exception as error:
            known = find_error(error)
            if known is None:
                cli.note(f"The log of this run is {log_path}")
                raise
            raise known from error
        finally:
            seconds.update(stage_seconds)
        outputs = outputs_of_last_run(metadata_path)
        outcome = read_outcome(outputs)
        if not schemas:
            save_curated(
                Path(outputs["SchemaGen", "schema"].uri) / "schema.pbtxt", schema_dir / "v1" / "schema.pbtxt", spec
            )
    finished = {"metrics": outcome.metrics, "artifacts": outcome.artifacts, "seconds": seconds}
    if not outcome.blessed:
        stores.results.finish_training_run(
            run_id, {**finished, "status": "not_blessed", "error": "; ".join(outcome.failures)}
        )
        raise NotBlessedError(
            "model", "trained but not blessed:\n  " + "\n  ".join(outcome.failures), "The last pushed model stays."
        )
    if outcome.pushed_version is None:
        stores.results.finish_training_run(run_id, {**finished, "status": "blessed"})
        return Trained(None, False, outcome.metrics, seconds)
    _register(settings, stores, span, spec, config, run_key, outcome)
    stores.results.finish_training_run(
        run_id, {**finished, "status": "pushed", "model_version": outcome.pushed_version}
    )
    return Trained(outcome.pushed_version, False, outcome.metrics, seconds)


def _register(
    settings: Settings, stores: Stores, span: DataSpan, spec: Any, config: Mapping[str, Any], run_key: str, outcome: Any
) -> None:
    from components.model_card import CARD_FILE, build_card

    name, version = settings.training.model_name, outcome.pushed_version
    directory = settings.models_dir / name / str(version)
    card = build_card(
        model_name=name,
        model_version=version,
        data_span=span.__dict__,
        feature_spec=spec.model_dump(mode="json"),
        config=config,
        code_digest=code_digest(),
        git_revision=git_revision(),
        calibration=outcome.calibration,
        metrics=outcome.metrics,
        slices=outcome.slices,
        artifacts=outcome.artifacts,
        software={
            package: metadata.version(package) for package in ("tensorflow", "tfx", "keras", "apache-beam", "numpy")
        },
    )
    cli.write_json(directory / "assets.extra" / CARD_FILE, card)
    stores.results.register_model(
        {
            "model_version": version,
            "model_name": name,
            "feature_version": spec.digest,
            "feature_spec": spec.model_dump(mode="json"),
            "threshold": outcome.calibration["threshold"],
            "digest": model_digest(directory),
            "data_span": span.span,
            "run_key": run_key,
            "card": card,
        }
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


def _newest(stores: Stores) -> ModelVersion | None:
    models = stores.results.models()
    return models[0] if models else None


def _is_current(settings: Settings, model: ModelVersion, run_key: str) -> bool:
    """Whether a model came from this very run key and is still where it was pushed."""
    pushed = settings.models_dir / model.model_name / str(model.model_version) / "saved_model.pb"
    return model.run_key == run_key and pushed.is_file()


def _run_key(span: DataSpan, config: Mapping[str, Any]) -> str:
    content = {"span": span.digest, "config": config, "code": code_digest()}
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


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
    Console().print(table)
    if not runs:
        cli.note("No runs yet. Next: python -m pipelines.train")


if __name__ == "__main__":
    cli.run(main)
