"""`python -m pipelines.train`: trains on the warehouse through the whole TFX pipeline and pushes a blessed model."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from configs import cli
from configs.command_metrics import CommandMetrics, command_metrics
from configs.errors import NotFoundError
from configs.settings import load_settings
from pipelines.training_run import Trained, compile_for_kubeflow, train
from warehouse.store import open_stores


class Runner(StrEnum):
    """What runs the stages."""

    LOCAL = "local"
    KUBEFLOW = "kubeflow"


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
            compile_for_kubeflow(settings, stores, image, pipeline_root, feature_version=features)
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
