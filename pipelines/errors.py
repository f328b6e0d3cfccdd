"""`python -m pipelines.errors`: which beats of new patients are judged wrongly, what they are like, would data help."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from configs import cli
from configs.contract import PART_NAMES
from configs.errors import ConfigurationError
from configs.settings import load_settings

DOCUMENT = "errors.md"
BEGIN, END = "<!-- written by python -m pipelines.errors -->", "<!-- end of what it wrote -->"
WORST = 50

Figures = dict[str, Any]


def main(
    data: Annotated[Path | None, typer.Option(help="Folder with MIT-BIH records; default: ECG_MITDB_DIR.")] = None,
    out: Annotated[Path, typer.Option(help=f"Folder for {DOCUMENT} and images/.")] = Path("build/errors"),
    seed: Annotated[int, typer.Option(min=0, help="Of the model whose errors are looked at.")] = 1,
    draws: Annotated[
        int, typer.Option(min=0, max=20, help="Models a point of the learning curves, 33 s each; 0 leaves them out.")
    ] = 3,
    profile: Annotated[str | None, typer.Option(help="Profile with other training settings.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Train by the inter-patient protocol, and write what goes wrong on DS2: tables, strips, learning curves.

    Where the document is there already, what stands outside the two marks in it stays. Exit codes: 0 done, 2 bad option
    or no data there.
    """
    settings = load_settings(profile)
    folder = data or settings.mitdb_dir
    if folder is None or not folder.is_dir():
        raise ConfigurationError("--data", f"{folder} is not a folder", "Give the folder with the records.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from components.calibration import threshold_at
    from pipelines.benchmark_data import DS1_CALIBRATION, DS2, load_mitdb
    from pipelines.benchmark_protocols import fit
    from pipelines.error_beats import read_recordings, score_beats
    from pipelines.error_sheets import draw_sheet
    from pipelines.learning_curve import TRAINING_RECORDS, learn, plot_curves

    spec, training = settings.features, settings.training.model_copy(update={"seed": seed})
    train = load_mitdb(folder, TRAINING_RECORDS, spec)
    held_out = load_mitdb(folder, DS1_CALIBRATION, spec)
    recordings = read_recordings(folder, DS2, spec)
    beats = score_beats(fit(train, held_out, spec, training), recordings)
    threshold = threshold_at(training.false_alarm_rate)
    figures = examine(beats, threshold) | {"seed": seed, "false_alarm_rate": training.false_alarm_rate}
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    named = {recording.name: recording for recording in recordings}
    for name, rows in worst(beats.data.anomalous, beats.score, threshold, WORST).items():
        title = f"The {len(rows)} worst {name}; threshold {threshold:.2f}; 25 mm/s, 10 mm/mV; blue: running template"
        sheet = draw_sheet(title, rows, beats, named, spec)
        (images / f"errors-{name.replace(' ', '-')}.svg").write_text(sheet, encoding="utf-8")
    cli.note(f"seed {seed}: ROC-AUC {figures['without'][0]['roc_auc']:.4f}; two sheets are in {images}")
    points = []
    for point in learn(train, held_out, beats.data, spec, settings.training, draws):
        points.append(point)
        cli.note(f"{point['patients']} patients, draw {point['draw']}: ROC-AUC {point['roc_auc']:.4f}, "
                 f"AP {point['average_precision']:.4f}")  # fmt: skip
    if points:
        plot_curves(points, images / "errors-learning.svg")
    figures["learning"] = points
    write_between(out / DOCUMENT, as_markdown(figures))
    cli.write_json(json_file, figures)
    cli.note(f"Written: {out / DOCUMENT}")


def examine(beats: Any, threshold: float) -> Figures:
    """All figures about the errors of scored beats (`error_beats.ScoredBeats`); what is in it can be JSON."""
    from pipelines.error_tables import by_own_normals, error_tables, largest_losses, most_errors, without

    recording, aami_class = beats.data.recording, beats.data.aami_class
    kinds = {
        "F beats of 213": (recording == "213") & (aami_class == "F"),
        "S beats of 222": (recording == "222") & (aami_class == "S"),
        "both": ((recording == "213") & (aami_class == "F")) | ((recording == "222") & (aami_class == "S")),
        "all F beats": aami_class == "F",
        "recordings 213 and 222": np.isin(recording, ["213", "222"]),
    }
    return {
        "tables": {table.name: list(table.rows) for table in error_tables(beats, threshold)},
        "losses": largest_losses(beats),
        "most": most_errors(beats, threshold),
        "without": without(beats, kinds),
        "by_own_normals": by_own_normals(beats),
    }


def worst(anomalous: Any, score: Any, threshold: float, most: int) -> dict[str, list[int]]:
    """Rows of the normal beats with the highest scores from the threshold on, and of the anomalous with the lowest."""
    order = np.argsort(score, kind="stable")
    alarms = [int(row) for row in order[::-1] if not anomalous[row] and score[row] >= threshold]
    misses = [int(row) for row in order if anomalous[row] and score[row] < threshold]
    return {"false alarms": alarms[:most], "misses": misses[:most]}


# --- what is written -----------------------------------------------------------------------------------------------


def as_markdown(figures: Figures) -> str:
    """The figures as tables, with the images."""
    lines = [
        f"Seed {figures['seed']}, false alarms and misses at the {figures['false_alarm_rate']:.0%} preset. The sheets: "
        "[false alarms](images/errors-false-alarms.svg), [misses](images/errors-misses.svg).",
        "",
        "### What the ranking loses",
        "",
        "1 - ROC-AUC is the share of pairs of an anomalous and a normal beat in the wrong order. Of these:",
        "",
    ]
    for name, groups in figures["losses"].items():
        rows: list[tuple[Any, ...]] = [
            (g["group"], g["beats"], f"{g['lost']:.4f}", f"{g['roc_auc']:.4f}", _number(g["own_roc_auc"]))
            for g in groups
        ]
        lines += [*_table((f"{name} beats", "beats", "lost", "ROC-AUC", "in its own recording"), rows), ""]
    lines += [
        "The same scores, with beats left out of the test, and ranked among the normal beats of their own recording.",
        "The last reads the labels of the test: a bound for what calibrating each recording can bring.",
        "",
    ]
    rows = [
        (w["left_out"], w["beats"], _number(w["roc_auc"]), _number(w["average_precision"])) for w in figures["without"]
    ]
    own = figures["by_own_normals"]
    rows.append(
        ("nothing; ranked among its own normal beats", 0, _number(own["roc_auc"]), _number(own["average_precision"]))
    )
    lines += [*_table(("left out", "beats", "ROC-AUC", "average precision"), rows), ""]
    lines += [
        "### Which beats",
        "",
        "Most errors by recording and annotation symbol, and what the parts add on average.",
        "",
    ]
    for name, groups in figures["most"].items():
        rows = [
            (g["group"], g["errors"], g["beats"], *(f"{g[part]:.2f}" for part in PART_NAMES), f"{g['early']:.0%}")
            for g in groups
        ]
        lines += [*_table((name, "errors", "of", *PART_NAMES, "came early"), rows), ""]
    for name, groups in figures["tables"].items():
        rows = [
            (g["group"], g["normal"], _share(g["false_alarms"], g["normal"]), g["anomalous"],
             _share(g["misses"], g["anomalous"]), _number(g["roc_auc"]))
            for g in groups
        ]  # fmt: skip
        lines += [f"### By {name}", ""]
        lines += [*_table((name, "normal", "false alarms", "anomalous", "misses", "ROC-AUC"), rows), ""]
    if figures["learning"]:
        lines += ["### Learning curves", "", "![Learning curves](images/errors-learning.svg)", ""]
        rows = []
        for n in sorted({p["patients"] for p in figures["learning"]}):
            own = [p for p in figures["learning"] if p["patients"] == n]
            pairs = [_mean_and_spread([p[key] for p in own]) for key in ("roc_auc", "average_precision")]
            rows.append((n, len(own), *pairs))
        lines += [*_table(("patients trained on", "draws", "ROC-AUC", "average precision"), rows), ""]
    return "\n".join(lines).rstrip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _mean_and_spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f} ± {(max(values) - min(values)) / 2:.4f}"


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def write_between(file: Path, text: str) -> None:
    """Puts `text` between the two marks of a document; one that is not there, or has no marks, gets a plain title."""
    old = file.read_text(encoding="utf-8") if file.is_file() else ""
    if BEGIN not in old or END not in old:
        old = f"# Errors\n\n{BEGIN}\n{END}\n"
    before, rest = old.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
