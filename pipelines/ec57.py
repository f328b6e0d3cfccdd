"""`python -m pipelines.ec57`: a model version beat by beat against reference annotations, after ANSI/AAMI EC57."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import wfdb
from rich.table import Table

from configs import cli, contract
from configs.contract import FeatureSpec
from configs.errors import ConfigurationError, DataInvalidError
from configs.settings import Settings, load_settings
from pipelines.benchmark_data import BLOCK_S, PACED, to_dataset
from pipelines.score import model_source
from serving.connect import open_client
from serving.model_client import ModelClient
from serving.model_files import amend_card
from warehouse.signal.beat_comparison import (
    EC57_OF_SYMBOL,
    FLAGGED,
    LEARNING_S,
    MATCH_S,
    NO_VERDICT,
    NORMAL,
    Beats,
    Counts,
    average,
    compare,
)
from warehouse.signal.ecg import TimeArray, Windows
from warehouse.signal.readers import SourceRef, find_sources, open_source
from warehouse.signal.readers.wfdb_annotations import read_fibrillation
from warehouse.signal.windows import concatenate, cut_windows
from warehouse.store import Stores, open_stores
from warehouse.store.records import ModelVersion

CARD_KEY = "ec57"
_SHOWN = (
    "qrs_sensitivity", "qrs_positive_predictivity", "veb_sensitivity", "veb_positive_predictivity", "sveb_sensitivity",
    "sveb_positive_predictivity", "flags_sensitivity", "flags_positive_predictivity",
)  # fmt: skip


@dataclass(frozen=True)
class _Cut:
    """A record: its reference beats, and windows of the beats that the detector found in it."""

    name: str
    checksum: str
    rate_hz: float
    n_samples: int
    reference: Beats
    fibrillation: list[tuple[int, int]]
    windows: Windows
    rejected_s: TimeArray


def main(
    data: Annotated[
        Path | None, typer.Option(help="Folder with annotated WFDB records; default: ECG_MITDB_DIR.")
    ] = None,
    records: Annotated[
        str | None, typer.Option(help="Only these, with commas between them; default: all but paced ones of MIT-BIH.")
    ] = None,
    model_version: Annotated[int | None, typer.Option(min=1, help="Default: the stable version.")] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="Also write what was found here, RECORD.ecg: N normal, V flagged, Q without a verdict."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write counts and statistics here.")] = None,
) -> None:
    """Compare a model version with reference annotations, beat by beat: QRS, VEB and SVEB, record by record.

    R peaks are found by the platform's own detector (ingest.detector), as in recordings without annotations. Matching
    is within 150 ms, the first five minutes are skipped. Gross statistics count all beats together, average ones are
    means over records; recordings that the version was trained or calibrated on are kept apart. The result goes into
    the model card.

    Exit codes: 0 done, 2 bad option or no data there, 3 no such version, 5 a database or the model is not available.
    """
    settings = load_settings(profile)
    folder = data or settings.mitdb_dir
    if folder is None or not folder.is_dir():
        raise ConfigurationError("--data", f"{folder} is not a folder", "Give the folder with the records.")
    names = None if records is None else [name.strip() for name in records.split(",") if name.strip()]
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        version = model_version or stores.results.release().stable
        (model,) = stores.results.models(version)
        result = evaluate(settings, stores, model, folder, names, annotations)
        amend_card(settings.models_dir, stores.results, model, {CARD_KEY: result})
    cli.write_json(json_file, result)
    _show(result)
    cli.note(f"The result is in the model card of version {version}: GET /models/{version}")


def evaluate(
    settings: Settings,
    stores: Stores,
    model: ModelVersion,
    folder: Path,
    names: Sequence[str] | None,
    annotations: Path | None = None,
) -> dict[str, Any]:
    """What a version finds in annotated records; see docs/governance.md for what the figures mean.

    Raises:
        ConfigurationError: a record is not there, or has no reference beats.
    """
    sources = _sources(folder, names)
    spec = FeatureSpec.model_validate(model.feature_spec)
    client = open_client(model_source(settings, model))
    made_from = stores.results.model_lineage(model.model_version)["recordings"]
    split_of = {row["checksum"]: row["split"] for row in made_from or ()}
    counts: dict[str, Counts] = {}
    seen: dict[str, str | None] = {}
    jobs = [(source, spec, settings.ingest.detector) for source in sources]
    try:
        with ProcessPoolExecutor(min(os.cpu_count() or 1, len(jobs))) as pool, cli.progress() as progress:
            task = progress.add_task("records", total=len(jobs))
            for cut in pool.map(_cut, jobs):
                counts[cut.name] = _compare(cut, client, annotations)
                seen[cut.name] = split_of.get(cut.checksum) if made_from else "unknown"
                progress.advance(task)
    finally:
        client.close()
    unseen = [name for name in counts if seen[name] in (None, contract.TEST)]
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "r_peaks": f"detector {settings.ingest.detector}",
        "match_window_s": MATCH_S,
        "learning_period_s": LEARNING_S,
        "records": {name: {"seen_in": seen[name], **one.as_json()} for name, one in counts.items()},
        "unseen_patients": _aggregate([counts[name] for name in unseen]),
        "all_records": _aggregate(list(counts.values())),
    }


def _aggregate(parts: Sequence[Counts]) -> dict[str, Any]:
    return {"records": len(parts), "gross": Counts.total(parts).as_json(), "average": average(parts)}


def _sources(folder: Path, names: Sequence[str] | None) -> list[SourceRef]:
    wanted = [str(folder)] if names is None else [str(folder / name) for name in names]
    found, failures = find_sources(wanted)
    if failures:
        raise ConfigurationError(str(folder), str(failures[0]), "Give records that are there with --records.")
    sources = [
        one
        for one in found
        if one.path.suffix == ".hea"
        and one.path.with_suffix(".atr").is_file()
        and (names is not None or one.path.stem not in map(str, PACED))
    ]
    if not sources or (names is not None and len(sources) < len(names)):
        raise ConfigurationError(
            str(folder), "lacks a WFDB record with reference annotations", "Each needs its .hea, .dat and .atr."
        )
    return sources


def _cut(job: tuple[SourceRef, FeatureSpec, str]) -> _Cut:
    ref, spec, detector = job
    source = open_source(ref)
    header, annotated = source.header, source.annotations()
    if annotated is None:
        raise DataInvalidError(header.name, "has no reference beats", "Leave it out: --records names the others.")
    rate_hz = header.sampling_rate_hz
    chunks = list(cut_windows(source, spec, block_s=BLOCK_S, detector=detector, use_annotations=False))
    spans = read_fibrillation(ref.path.with_suffix(".atr"), sampling_rate_hz=rate_hz, duration_s=header.duration_s)
    return _Cut(
        name=header.name,
        checksum=header.checksum,
        rate_hz=rate_hz,
        n_samples=header.n_samples,
        reference=Beats(
            np.rint(annotated.time_s * rate_hz).astype(np.int64), [EC57_OF_SYMBOL[s] for s in annotated.symbol.tolist()]
        ),
        fibrillation=[(round(start * rate_hz), round(end * rate_hz)) for start, end in spans],
        windows=concatenate([chunk.windows for chunk in chunks]),
        rejected_s=np.array([beat.r_peak_s for chunk in chunks for beat in chunk.rejected], dtype=np.float64),
    )


def _compare(cut: _Cut, client: ModelClient, annotations: Path | None) -> Counts:
    windows = cut.windows
    data = to_dataset(windows, windows.aami_class, cut.name, np.zeros(0, "<U4"))
    flagged = client.score(data.inputs).verdict if len(windows) else np.zeros(0, bool)
    time_s = np.concatenate([windows.r_peak_s, cut.rejected_s])
    said = np.concatenate([np.where(flagged, FLAGGED, NORMAL), np.full(len(cut.rejected_s), NO_VERDICT)])
    order = np.argsort(time_s, kind="stable")
    test = Beats(np.rint(time_s[order] * cut.rate_hz).astype(np.int64), said[order].tolist())
    if annotations is not None:
        _write(annotations, cut.name, test)
    return compare(cut.reference, test, sampling_rate_hz=cut.rate_hz, end=cut.n_samples, fibrillation=cut.fibrillation)


def _write(folder: Path, name: str, beats: Beats) -> None:
    """As a WFDB annotation file, for other people's comparators, such as PhysioNet's bxb."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = {NORMAL: "N", FLAGGED: "V", NO_VERDICT: "Q"}
    wfdb.wrann(name, "ecg", beats.sample, symbol=[symbols[said] for said in beats.label], write_dir=str(folder))


def _show(result: Mapping[str, Any]) -> None:
    table = Table(
        "record", "seen in", "QRS Se", "QRS +P", "VEB Se", "VEB +P", "SVEB Se", "SVEB +P", "flags Se", "flags +P"
    )
    for name, row in result["records"].items():
        table.add_row(name, row["seen_in"] or "", *_percent(row))
    table.add_section()
    for title, key in (("unseen", "unseen_patients"), ("all", "all_records")):
        part = result[key]
        if part["records"]:
            table.add_row(f"{title} ({part['records']}), gross", "", *_percent(part["gross"]))
            table.add_row(f"{title} ({part['records']}), average", "", *_percent(part["average"]))
    cli.show(table)


def _percent(row: Mapping[str, Any]) -> list[str]:
    return ["-" if row[name] is None else f"{100 * row[name]:.2f}" for name in _SHOWN]


if __name__ == "__main__":
    cli.run(main)
