"""`python -m pipelines.benchmark`: how well the detector ranks and alarms, by exact protocols, on reference data."""

import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from configs import cli, contract
from configs.contract import FeatureSpec
from configs.errors import ConfigurationError, UnavailableError
from configs.settings import Settings, TrainingSettings, load_settings
from pipelines.benchmark_data import (
    DISTURBANCES,
    DS1,
    DS1_CALIBRATION,
    DS2,
    Dataset,
    load_mitdb,
)
from warehouse.signal.ecg import FloatArray

PROTOCOLS = ("mixed", "inter-patient", "adaptive", "ecg5000", "detector")
PEERS = ("outlier_vae", "outlier_ae", "iforest", "pca", "autoencoder")
ADAPTIVE_S = 300.0
MITDB_RECORDS = tuple(sorted({*DS1, *DS2}))
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "all parts": {},
    "without timing": {"use_rhythm": False},
    "without the conditioned autoencoder": {"use_context": False},
    "without any template": {"use_template": False},
    "morphology autoencoder alone": {"use_template": False, "use_rhythm": False},
    "convolutional layers": {"layers": "convolutional", "latent_units": 8},
}

Result = dict[str, Any]


def main(
    protocol: Annotated[str, typer.Option(help=f"One of {', '.join(PROTOCOLS)}.")] = "inter-patient",
    data: Annotated[
        Path | None, typer.Option(help="Folder with MIT-BIH records, or with ECG5000_*.txt; default: ECG_MITDB_DIR.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=20, help="How many seeds: 1, 2, ... Mean and spread are over them.")
    ] = 3,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also the detectors of `make peers`, on the same windows.")
    ] = False,
    ablation: Annotated[bool, typer.Option("--ablation", help="Also with parts left out (inter-patient).")] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also on disturbed recordings (inter-patient).")
    ] = False,
    platform: Annotated[
        bool,
        typer.Option("--platform", help="Instead by the platform: databases, TFX pipeline, scoring (inter-patient)."),
    ] = False,
    profile: Annotated[str | None, typer.Option(help="Profile with other training settings or geometry.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Train and test by a protocol of docs/benchmark.md, once a seed; print means and spreads.

    No test data take part in any choice. Exit codes: 0 done, 2 bad option or no data there.
    """
    if protocol not in PROTOCOLS:
        raise ConfigurationError("--protocol", f"{protocol} is none of {', '.join(PROTOCOLS)}")
    if (ablation or robustness or platform) and protocol != "inter-patient":
        raise ConfigurationError(
            "--protocol", f"--ablation, --robustness and --platform go with inter-patient, not {protocol}"
        )
    settings = load_settings(profile)
    folder = data or settings.mitdb_dir
    if folder is None or not folder.is_dir():
        raise ConfigurationError("--data", f"{folder} is not a folder", "Give the folder with the records.")
    # Every model is a new graph: TensorFlow's advice on retracing is not meant for this.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if platform:
        _through_platform(folder, settings, seeds, json_file)
        return
    run = {"mixed": _mixed, "ecg5000": _ecg5000}.get(protocol, _inter_patient)
    found: dict[str, list[Result]] = {}
    options = {"peers": peers, "ablation": ablation, "robustness": robustness}
    for seed in range(1, seeds + 1):
        training = settings.training.model_copy(update={"seed": seed})
        for name, result in run(protocol, folder, settings.features, training, options):
            found.setdefault(name, []).append(result)
            cli.note(_line(f"seed {seed}  {name}", result))
    summary = {name: summarise(results) for name, results in found.items()}
    _show(protocol, summary)
    cli.write_json(json_file, {"protocol": protocol, "seeds": seeds, "summary": summary, "runs": found})


def _through_platform(folder: Path, settings: Settings, seeds: int, json_file: Path | None) -> None:
    from pipelines.benchmark_platform import through_platform

    runs = []
    for seed in range(1, seeds + 1):
        training = settings.training.model_copy(update={"seed": seed})
        runs.append(through_platform(folder, settings.model_copy(update={"training": training})))
        ranks = ", ".join(
            f"{name} {r['roc_auc']:.4f}/{r['average_precision']:.4f}" for name, r in runs[-1]["ranking"].items()
        )
        cli.note(f"seed {seed}  ROC-AUC/AP by the {ranks}")
    summary = summarise(runs)
    table = Table("by", "ROC-AUC", "AP", title="inter-patient through the platform: mean and spread over seeds")
    for name, ranking in summary["ranking"].items():
        table.add_row(name, _pair(ranking["roc_auc"]), _pair(ranking["average_precision"]))
    cli.show(table)
    cli.write_json(json_file, {"protocol": "inter-patient", "platform": True, "summary": summary, "runs": runs})


# --- protocols -----------------------------------------------------------------------------------------------------


def _inter_patient(
    protocol: str, folder: Path, spec: FeatureSpec, training: TrainingSettings, options: Mapping[str, bool]
) -> Iterator[tuple[str, Result]]:
    """DS1 normals to train, all of DS2 to test; adaptive tests after five minutes; detector finds its own R peaks."""
    from pipelines.benchmark_protocols import fit

    detector = "neurokit" if protocol == "detector" else None
    train = load_mitdb(folder, [r for r in DS1 if r not in DS1_CALIBRATION], spec, detector=detector)
    held_out = load_mitdb(folder, DS1_CALIBRATION, spec, detector=detector)
    test = load_mitdb(folder, DS2, spec, detector=detector)
    if protocol == "adaptive":
        test = test.take(test.r_peak_s >= ADAPTIVE_S)
    # Beside peers also without timing: what they have of themselves.
    variants = tuple(ABLATIONS) if options["ablation"] else ("all parts", "without timing")[: 1 + options["peers"]]
    for name in variants:
        fitted = fit(train, held_out, spec, training.model_copy(update=dict(ABLATIONS[name])))
        yield name, _tested(fitted, test)
        if name == "all parts" and options["robustness"]:
            for disturbance in DISTURBANCES:
                yield disturbance, _tested(fitted, load_mitdb(folder, DS2, spec, disturbance=disturbance))
    if options["peers"]:
        yield from _peers(train, held_out, test, spec, training.seed)


def _mixed(
    protocol: str, folder: Path, spec: FeatureSpec, training: TrainingSettings, options: Mapping[str, bool]
) -> Iterator[tuple[str, Result]]:
    """BeatGAN's: normals of all patients 80/20, every other beat anomalous; says nothing about new patients."""
    from pipelines.benchmark_protocols import fit

    del protocol
    data = load_mitdb(folder, MITDB_RECORDS, spec)
    random = np.random.default_rng(training.seed)
    draw = random.random(len(data))
    train = data.take(~data.anomalous & (draw < 0.75))
    held_out = data.take(~data.anomalous & (draw >= 0.75) & (draw < 0.8))
    test = data.take(data.anomalous | (draw >= 0.8))
    known = training.model_copy(update={"population": "known_patients", "shift_samples": 0})
    alone = {"use_template": False, "use_rhythm": False}
    variants = {"shape only, the beat alone": alone, "shape only": {"use_rhythm": False}, "with rhythm": {}}
    for name, changes in variants.items():
        yield name, _tested(fit(train, held_out, spec, known.model_copy(update=dict(changes))), test)
    if options["peers"]:
        yield from _peers(train, held_out, test, spec, training.seed)


def _ecg5000(
    protocol: str, folder: Path, spec: FeatureSpec, training: TrainingSettings, options: Mapping[str, bool]
) -> Iterator[tuple[str, Result]]:
    """UCR windows, stratified five folds: normals of four train, a threshold from the four, accuracy on the fifth."""
    from pipelines.benchmark_ecg5000 import PeerJob, cross_validate, cross_validate_peers

    del protocol, spec
    yield "the beat alone", cross_validate(folder, training)
    if options["peers"]:

        def scores(jobs: Sequence[PeerJob]) -> list[dict[str, FloatArray]]:
            return [{name: found["score"] for name, found in by_name.items()} for by_name in run_peers(jobs)]

        for name, result in cross_validate_peers(folder, training.seed, scores).items():
            yield f"peer {name}", result


def _tested(fitted: Any, test: Dataset) -> Result:
    from pipelines.benchmark_protocols import describe, judge

    score, windows_per_second = fitted.score(test)
    return judge(test, score) | {"cost": describe(fitted, windows_per_second)}


def _peers(
    train: Dataset, held_out: Dataset, test: Dataset, spec: FeatureSpec, seed: int
) -> Iterator[tuple[str, Result]]:
    """Each peer on the same windows: its own score, and that with our timing, both as tail probabilities."""
    import tensorflow as tf

    from components import measure, preprocessing
    from components.calibration import fit_tail
    from pipelines.benchmark_protocols import judge

    del spec

    def timing(data: Dataset) -> Any:
        rhythm = preprocessing.rhythm_features(tf.constant(data.inputs[contract.RR]))
        return measure.timing_measure(rhythm).numpy()

    normals, calibrating = train.take(~train.anomalous), held_out.take(~held_out.anomalous)
    rank_timing, n = fit_tail(timing(calibrating)), len(calibrating)
    both = np.concatenate([calibrating.inputs[contract.SAMPLES], test.inputs[contract.SAMPLES]])
    (found_by_name,) = run_peers([(normals.inputs[contract.SAMPLES], both, seed)])
    for name, found in found_by_name.items():
        calibrated = fit_tail(found["score"][:n])(found["score"][n:])
        cost = {key: float(found[key]) for key in ("parameters", "windows_per_second")}
        cost["training_seconds"] = float(found["train_seconds"])
        yield f"peer {name}", judge(test, calibrated) | {"cost": cost}
        yield f"peer {name}, with timing", judge(test, calibrated + rank_timing(timing(test))) | {"cost": cost}


def run_peers(jobs: Sequence[tuple[FloatArray, FloatArray, int]]) -> list[dict[str, dict[str, Any]]]:
    """What each peer, in its own environment, makes of windows (n, W, L): see `pipelines/peers.py`, "Out".

    A job is windows of normal beats to learn from, windows to score, and a seed.

    Raises:
        UnavailableError: their environment is not there.
    """
    python = Path(".venv-peers/bin/python")
    if not python.exists():
        raise UnavailableError("--peers", "their environment is not there", "Make it: make peers")
    with tempfile.TemporaryDirectory() as folder:
        windows = [Path(folder) / f"windows{number}.npz" for number in range(len(jobs))]
        scores = [Path(folder) / f"scores{number}.npz" for number in range(len(jobs))]
        for path, (train, test, _) in zip(windows, jobs, strict=True):
            np.savez(path, train=train, test=test)
        command = [str(python), "pipelines/peers.py", "--peers", ",".join(PEERS), "--data", *map(str, windows)]
        command += ["--out", *map(str, scores), "--seed", *(str(seed) for _, _, seed in jobs)]
        subprocess.run(command, check=True)
        return [_peers_found(path) for path in scores]


def _peers_found(path: Path) -> dict[str, dict[str, Any]]:
    with np.load(path) as found:
        keys = ("score", "parameters", "train_seconds", "windows_per_second")
        return {name: {key: found[f"{name}_{key}"] for key in keys} for name in PEERS}


# --- what is printed -----------------------------------------------------------------------------------------------


def summarise(results: Sequence[Result]) -> Result:
    """Mean and spread (largest minus smallest) of every number over the seeds."""

    def merge(values: Sequence[Any]) -> Any:
        if isinstance(values[0], Mapping):
            return {key: merge([v[key] for v in values if key in v]) for key in values[0]}
        if isinstance(values[0], bool | str) or any(v is None for v in values):
            return values[0]
        return {"mean": float(np.mean(values)), "spread": float(np.max(values) - np.min(values))}

    merged: Result = merge(list(results))
    return merged


def _line(name: str, result: Result) -> str:
    if "roc_auc" not in result:
        return f"{name}: accuracy {result['accuracy']:.4f}"
    return f"{name}: ROC-AUC {result['roc_auc']:.4f}, AP {result['average_precision']:.4f}"


def _show(protocol: str, summary: Mapping[str, Result]) -> None:
    columns = ["ROC-AUC", "AP", "sens. at 3%", "PPV at 3%", "alarms at 3%"]
    table = Table(
        "", *columns, "parameters", "FLOPs", "train s", "windows/s", title=f"{protocol}: mean and spread over seeds"
    )
    for name, result in summary.items():
        if "roc_auc" not in result:
            table.add_row(name, f"accuracy {_pair(result['accuracy'])}")
            continue
        at, cost = result["presets"]["0.03"], result["cost"]
        ranks = [_pair(result[key]) for key in ("roc_auc", "average_precision")]
        alarms = [_pair(at[key], 3) for key in ("sensitivity", "ppv", "false_alarm_rate")]
        measured = ("parameters", "flops_a_window", "training_seconds", "windows_per_second")
        costs = [f"{cost[key]['mean']:,.0f}" if key in cost else "" for key in measured]
        table.add_row(name, *ranks, *alarms, *costs)
    cli.show(table)
    first = next(iter(summary.values()))
    if "by_class" not in first:
        return
    presets = Table(
        *("preset", "thresholds", "false alarms", "sensitivity", "PPV", "within"),
        title="Thresholds: the model's, and those that follow the recording, before and after some of its beats were "
        "reviewed; within: recordings within half and twice",
    )
    within = "recordings_within_half_and_twice"
    for name, at in first["presets"].items():
        by_reviews = {f"own, {n} reviewed": figures for n, figures in first["own_thresholds"][name].items()}
        for whose, figures in {"model": at | {within: first[within][name]}, **by_reviews}.items():
            cells = [figures[key] for key in ("false_alarm_rate", "sensitivity", "ppv", within)]
            presets.add_row(f"{float(name):.0%}", whose, *(_pair(cell, 3) for cell in cells))
    cli.show(presets)
    title, rates = next(iter(summary)), list(first["presets"])
    classes = Table("class", "beats", "ROC-AUC", *(f"sens. at {float(rate):.0%}" for rate in rates), title=title)
    for name, result in first["by_class"].items():
        sensitivity = [_pair(result["sensitivity"][rate], 3) for rate in rates]
        classes.add_row(name, f"{result['beats']['mean']:.0f}", _pair(result["roc_auc"]), *sensitivity)
    cli.show(classes)
    columns = ["normal", "anomalous", "ROC-AUC", "false alarms at 3%", "sens. at 3%"]
    recordings = Table("recording", *columns, title=title)
    for name, result in first["by_recording"].items():
        auc, sensitive = result["roc_auc"], result["sensitivity"]["0.03"]
        recordings.add_row(
            name,
            f"{result['normal']['mean']:.0f}",
            f"{result['anomalous']['mean']:.0f}",
            "" if auc is None else _pair(auc),
            _pair(result["false_alarm_rate"]["0.03"], 3),
            "" if sensitive is None else _pair(sensitive, 3),
        )
    cli.show(recordings)


def _pair(value: Mapping[str, float], digits: int = 4) -> str:
    return f"{value['mean']:.{digits}f} ±{value['spread'] / 2:.{digits}f}"


if __name__ == "__main__":
    cli.run(main)
