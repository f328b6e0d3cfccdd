"""Learning curves: how detection on new patients grows with the number of patients that were trained on."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.contract import FeatureSpec
from configs.settings import TrainingSettings
from pipelines.benchmark_data import DS1, DS1_CALIBRATION, Dataset
from pipelines.benchmark_protocols import fit, judge

TRAINING_RECORDS = tuple(r for r in DS1 if r not in DS1_CALIBRATION)
AIMS = {"roc_auc": 0.985, "average_precision": 0.90}
_REACH = {"roc_auc": 0.01, "average_precision": 0.04}  # of the axis below and above the aim
PATIENTS = (3, 6, 12, len(TRAINING_RECORDS))


def draws_of(n_patients: int, n_draws: int) -> list[tuple[int, ...]]:
    """Which records each draw trains on, chosen by its number alone; a larger draw holds the smaller of its number."""
    orders = [np.random.default_rng(draw).permutation(TRAINING_RECORDS) for draw in range(1, n_draws + 1)]
    return [tuple(sorted(order[:n_patients].tolist())) for order in orders]


def learn(
    train: Dataset, held_out: Dataset, test: Dataset, spec: FeatureSpec, training: TrainingSettings, n_draws: int
) -> Iterator[dict[str, Any]]:
    """Trains on ever more patients, as many gradient steps each time; calibrates and tests on the same patients.

    Yields:
        For each number of patients and draw: patients, draw, records, roc_auc, average_precision.
    """
    for n_patients in PATIENTS:
        for draw, records in enumerate(draws_of(n_patients, n_draws), 1):
            rows = np.isin(train.recording, [str(record) for record in records])
            epochs = round(training.epochs * (~train.anomalous).sum() / (rows & ~train.anomalous).sum())
            settings = training.model_copy(update={"seed": draw, "epochs": int(epochs)})
            score, _ = fit(train.take(rows), held_out, spec, settings).score(test)
            found = judge(test, score)
            yield {
                "patients": n_patients,
                "draw": draw,
                "records": list(records),
                "roc_auc": found["roc_auc"],
                "average_precision": found["average_precision"],
            }


def plot_curves(points: Sequence[dict[str, Any]], file: Path) -> None:
    """Draws both measures against the number of patients as SVG: a dot a draw, a line through the means, the aim."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "errors", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        for axes, key, label in zip(
            figure.subplots(1, 2), ("roc_auc", "average_precision"), ("ROC-AUC", "average precision"), strict=True
        ):
            axes.scatter([p["patients"] for p in points], [p[key] for p in points], s=12, color="#0a58ca", alpha=0.5)
            means = [np.mean([p[key] for p in points if p["patients"] == n]) for n in PATIENTS]
            axes.plot(PATIENTS, means, color="#0a58ca")
            axes.set(xlabel="patients trained on", ylabel=label, xticks=PATIENTS)
            axes.axhline(AIMS[key], color="#777", linestyle="--", label="aim")
            axes.set_ylim(min(AIMS[key] - _REACH[key], min(means)), AIMS[key] + _REACH[key] / 2)
            axes.legend(loc="upper left", frameon=False)
            axes.grid(alpha=0.3)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
