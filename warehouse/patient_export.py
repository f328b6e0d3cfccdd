"""All that is stored of a patient, as files a person can take along: tables as CSV, the signal as WFDB."""

import csv
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from configs.contract import MV_PER_COUNT, FeatureSpec
from configs.errors import ConflictError
from warehouse.erasure import Patient
from warehouse.store import Stores
from warehouse.store.erasure_queries import ErasureQueries
from warehouse.store.records import WindowSet
from warehouse.store.signal_queries import NO_SAMPLE

_PIECE_S: Final = 600.0  # of signal in memory


def export_patient(stores: Stores, patient: Patient, folder: Path) -> dict[str, int]:
    """Writes everything about a patient; returns rows by table, and samples.

    Args:
        folder: new, or empty.

    Raises:
        ConflictError: there is something in it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConflictError(str(folder), "is not empty", "Name a folder that is new.")
    traces = stores.warehouse.traces_of(patient.site, patient.pseudonym)
    counts: dict[str, int] = {}
    databases: tuple[tuple[str, ErasureQueries], ...] = (("warehouse", stores.warehouse), ("results", stores.results))
    for name, database in databases:
        for about in database.tables_about_recordings():
            path = folder / name / f"{about.table}.csv"
            counts[f"{name}.{about.table}"] = _write_csv(path, database.rows_about(about, traces))
    counts["signal samples"] = sum(_write_signals(stores, number, folder / "signal") for number in traces.recording_ids)
    spans = stores.warehouse.spans_with(traces)
    about_patient = {
        "patient": stores.warehouse.patient(patient.site, patient.pseudonym),
        "uploads": stores.warehouse.uploads_about(patient.site, patient.pseudonym, traces),
        "trained_models": [
            {name: model[name] for name in ("model_name", "model_version", "data_span")}
            for model in stores.results.trained_on(spans)
        ],
        "rows": counts,
    }
    text = json.dumps(about_patient, indent=2, default=_plain)
    (folder / "patient.json").write_text(text + "\n", encoding="utf-8")
    return counts


def _write_csv(path: Path, rows: Any) -> int:
    """RFC 4180 in UTF-8, with a header line; no file where there is no row."""
    n = 0
    file = None
    try:
        for row in rows:
            if file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("w", newline="", encoding="utf-8")
                writer = csv.writer(file)
                writer.writerow(row)
            writer.writerow([_cell(value) for value in row.values()])
            n += 1
    finally:
        if file is not None:
            file.close()
    return n


def _write_signals(stores: Stores, recording_id: int, folder: Path) -> int:
    """Each geometry's signal of a recording as WFDB format 16, microvolts; returns samples written."""
    recording = stores.warehouse.recording(recording_id)
    n_samples = 0
    for row in recording["window_sets"]:
        spec = stores.warehouse.feature_spec(row["feature_version"])
        if spec.precut_samples:
            continue  # windows that came cut have no signal between them
        window_set = stores.warehouse.window_set_of(recording_id, row["feature_version"])
        if any(window_set.lead_slots):
            folder.mkdir(parents=True, exist_ok=True)
            name = f"recording{recording_id}_{row['window_set_id']}"
            n_samples += _write_wfdb(stores, window_set, spec, folder / name, recording)
    return n_samples


def _write_wfdb(
    stores: Stores, window_set: WindowSet, spec: FeatureSpec, path: Path, recording: Mapping[str, Any]
) -> int:
    leads = [lead for lead in window_set.lead_slots if lead]
    n, first, checksums = 0, np.zeros(len(leads), np.int16), np.zeros(len(leads), np.int64)
    with path.with_suffix(".dat").open("wb") as file:
        start_s = 0.0
        while start_s < window_set.duration_s:
            mv = stores.warehouse.strip(window_set, spec, start_s, start_s + _PIECE_S).samples_mv
            counts = np.where(np.isnan(mv), NO_SAMPLE, np.rint(np.nan_to_num(mv) / MV_PER_COUNT)).astype("<i2")
            if n == 0 and len(counts):
                first = counts[0]
            file.write(counts.tobytes())
            checksums += counts.astype(np.int64).sum(axis=0)
            n += len(counts)
            start_s += _PIECE_S
    gain = round(1 / MV_PER_COUNT)
    lines = [f"{path.name} {len(leads)} {spec.sampling_rate_hz:g} {n}"]
    for i, lead in enumerate(leads):
        checksum = int(checksums[i].astype(np.int16))
        lines.append(f"{path.name}.dat 16 {gain}(0)/mV 16 0 {first[i]} {checksum} 0 {lead}")
    lines.append(
        f"# band-passed and resampled; recording {recording['name']}, start {recording['start_time'].isoformat()}"
    )
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return n * len(leads)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, default=_plain)
    return _plain(value) if isinstance(value, datetime) else value


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
