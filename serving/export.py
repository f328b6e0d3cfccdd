"""`python -m serving.export`: a version for small devices and other runtimes, each checked against the SavedModel."""

import gzip
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from configs import cli, contract
from configs.errors import DataInvalidError, ModelUnavailableError, NotBlessedError
from configs.settings import Settings, load_settings
from serving.comparison import average_precision, roc_auc
from serving.model_client import FloatArray, Scores
from serving.model_files import amend_card, verified_dir
from warehouse.store import Stores, open_stores
from warehouse.store.records import ModelVersion

META_FILE = "export.json"
NAMES = ("float32", "float16", "dynamic", "int8", "pruned", "low_rank", "distilled", "onnx")


@dataclass
class Exported:
    """A line of the table. Quality is measured on the same held-out windows as the SavedModel's.

    Attributes:
        agreement: share of windows with the SavedModel's verdict.
        refused: why it was not kept; None when it was.
    """

    name: str
    bytes: int | None = None
    gzip_bytes: int | None = None
    load_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    windows_per_s: float | None = None
    roc_auc: float | None = None
    average_precision: float | None = None
    agreement: float | None = None
    max_difference: float | None = None
    flops: int | None = None
    parameters: int | None = None
    refused: str | None = None


def main(
    version: Annotated[int | None, typer.Argument(help="Model version; default: the stable one.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(NAMES)}; may be given again. Default: all.")
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, help="Refuse an export whose ROC-AUC or average precision falls by more.")
    ] = 0.01,
    windows: Annotated[int, typer.Option(min=50, help="Held-out windows to check each on, at most.")] = 2000,
    epochs: Annotated[int, typer.Option(min=1, help="Of the distilled student's training.")] = 30,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("build/export"),
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table here, as Markdown.")] = None,
) -> None:
    """Export a version as LiteRT (float32, float16, dynamic range, int8), pruned, low rank, distilled, ONNX.

    Each is run on held-out windows of the warehouse and compared with the SavedModel; one that is worse by more than
    the margin is refused. The table goes into the model card. examples/edge/ runs an export without TensorFlow.

    Exit codes: 0 done, 2 bad configuration, 3 nothing to check with, 4 an export was refused (the others are written),
    5 a database, the disk or the model is not available.
    """
    chosen = list(only or NAMES)
    if unknown := set(chosen) - set(NAMES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join(NAMES)}")
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        model = stores.results.models(version or stores.results.release().stable)[0]
        rows = export(settings, stores, model, chosen, out, margin=margin, windows=windows, epochs=epochs)
    cli.write_json(json_file, [asdict(row) for row in rows])
    _show(rows)
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(_as_markdown(rows), encoding="utf-8")
    refused = [row for row in rows if row.refused]
    if refused:
        lines = "\n  ".join(f"{row.name}: {row.refused}" for row in refused)
        raise NotBlessedError(f"exports of version {model.model_version}", f"{len(refused)} refused:\n  {lines}")
    cli.note(f"Exports: {out}")


def export(
    settings: Settings,
    stores: Stores,
    model: ModelVersion,
    names: list[str],
    out: Path,
    *,
    margin: float,
    windows: int,
    epochs: int,
) -> list[Exported]:
    """Makes the exports, checks each, keeps those that are good, and writes the table into the model card.

    Raises:
        DataInvalidError: there are no held-out windows to check with.
        ModelUnavailableError: the version's files are not what was pushed.
    """
    directory = verified_dir(settings.models_dir, model)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its deprecations are no news to the user
    logging.getLogger("absl").setLevel(logging.ERROR)
    held_out, truth = _windows(stores, model, (contract.TEST,), windows)
    examples, _ = _windows(stores, model, (contract.TRAIN, contract.CALIBRATION), 20_000)
    from serving.exporter import Exporter

    exporter = Exporter(directory, model, held_out, examples, epochs=epochs, seed=settings.training.seed)
    reference = Exported("SavedModel", flops=exporter.flops, parameters=exporter.parameters)
    expected = exporter.measure_reference(reference, directory)
    _judge(reference, expected, expected, truth, margin, None)
    rows = [reference]
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        cli.note(f"{name} ...")
        row = Exported(name)
        rows.append(row)
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            try:
                path, found = exporter.make(name, Path(scratch), row)
            except ModelUnavailableError as error:
                row.refused = error.problem
                continue
            row.bytes, row.gzip_bytes = path.stat().st_size, len(gzip.compress(path.read_bytes()))
            _judge(row, found, expected, truth, margin, reference)
            if row.refused is None:
                path.replace(out / path.name)
    cli.write_json(out / META_FILE, _meta(model))
    amend_card(settings.models_dir, stores.results, model, {"exports": [asdict(row) for row in rows]})
    return rows


def _judge(
    row: Exported, found: Scores, expected: Scores, truth: Any, margin: float, reference: Exported | None
) -> None:
    """Fills in quality, and refuses what is too much worse than the SavedModel."""
    row.agreement = float((found.verdict == expected.verdict).mean())
    if not np.isfinite(found.score).all():
        row.refused = f"{int((~np.isfinite(found.score)).sum())} of {len(found.score)} windows get no finite score"
        return
    row.max_difference = float(np.abs(found.score - expected.score).max())
    known = truth >= 0
    anomalous = truth[known] == 1
    if not anomalous.any() or anomalous.all():  # nothing to rank: only the verdicts can be compared
        if reference is not None and row.agreement < 1 - margin:
            row.refused = f"{row.agreement:.2%} of the verdicts are the SavedModel's, {1 - margin:.2%} are needed"
        return
    row.roc_auc = roc_auc(anomalous, found.score[known])
    row.average_precision = average_precision(anomalous, found.score[known])
    if reference is None or reference.roc_auc is None or reference.average_precision is None:
        return
    for name, value, of_reference in (
        ("ROC-AUC", row.roc_auc, reference.roc_auc),
        ("average precision", row.average_precision, reference.average_precision),
    ):
        if of_reference - value > margin:
            row.refused = f"{name} falls from {of_reference:.4f} to {value:.4f}, by more than {margin:g}"
            return


def _windows(
    stores: Stores, model: ModelVersion, splits: tuple[str, ...], limit: int
) -> tuple[dict[str, FloatArray], Any]:
    """Windows of splits, an equal share of each recording, evenly spread in it: raw inputs, and 1, 0 or -1 a window."""
    sets = [s for s in stores.warehouse.window_sets(model.feature_version, splits=splits) if s.n_windows]
    if not sets:
        raise DataInvalidError(
            f"{' and '.join(splits)} split", "has no windows to check an export with", "Ingest some."
        )
    spec = stores.warehouse.feature_spec(model.feature_version)
    share = max(1, limit // len(sets))
    parts, labels = [], []
    for block in (stores.warehouse.read_block(spec, *s.id_range(0, s.n_beats)) for s in sets):
        keep = np.zeros(len(block), bool)
        keep[np.linspace(0, len(block) - 1, min(share, len(block))).astype(int)] = True
        chosen = block.select(keep)
        parts.append(chosen.model_inputs())
        labels.append(np.where(chosen.aami_class == b"U", -1, (chosen.aami_class != b"N").astype(int)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, np.concatenate(labels)


def _meta(model: ModelVersion) -> dict[str, Any]:
    """What a reader of an export needs to know."""
    return {
        "model_version": model.model_version,
        "threshold": model.threshold,
        "features": dict(model.feature_spec),
        "inputs": list(contract.MODEL_INPUTS),
        "rr_columns": list(contract.RR_COLUMNS),
        "outputs": sorted((contract.SCORE, contract.VERDICT, contract.LEAD)),
    }


_COLUMNS = ("kB", "gzip kB", "load ms", "p50 ms", "p99 ms", "windows/s", "ROC-AUC", "AP", "same verdict", "MFLOP",
            "parameters", "")  # fmt: skip


def _as_markdown(rows: list[Exported]) -> str:
    """The table, as documentation shows it."""
    lines = [("Export", *_COLUMNS), ("---",) * (1 + len(_COLUMNS)), *((row.name, *_cells(row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _show(rows: list[Exported]) -> None:
    table = Table("export", *_COLUMNS)
    for row in rows:
        table.add_row(row.name, *_cells(row))
    cli.show(table)


def _cells(row: Exported) -> Iterator[str]:
    values: Mapping[str, tuple[float | None, str]] = {
        "kB": (None if row.bytes is None else row.bytes / 1000, ",.0f"),
        "gzip": (None if row.gzip_bytes is None else row.gzip_bytes / 1000, ",.0f"),
        "load": (row.load_ms, ",.1f"),
        "p50": (row.p50_ms, ".3f"),
        "p99": (row.p99_ms, ".3f"),
        "rate": (row.windows_per_s, ",.0f"),
        "auc": (row.roc_auc, ".4f"),
        "ap": (row.average_precision, ".4f"),
        "agreement": (row.agreement, ".2%"),
        "flops": (None if row.flops is None else row.flops / 1e6, ".2f"),
        "parameters": (row.parameters, ",.0f"),
    }
    for value, form in values.values():
        yield "" if value is None else format(value, form)
    yield "refused" if row.refused else ""


if __name__ == "__main__":
    cli.run(main)
