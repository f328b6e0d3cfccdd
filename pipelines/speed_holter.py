"""Speed and memory of a whole Holter recording: from a WFDB file to anomalies in the results database."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.settings import Settings
from pipelines.speed_scoring import spread
from warehouse.signal.readers import SourceRef, open_source
from warehouse.signal.simulate import simulate_recording
from warehouse.store import Stores

HOURS, SHORT_HOURS = 24, 2
RATE_HZ = 360

#: Runs in a process of its own, so that its peak memory is that of this work alone.
_CHILD = """
import json, sys, time
from pathlib import Path
from configs.memory import peak_memory_bytes
from configs.settings import load_settings
from pipelines.score import score
from pipelines.scoring_blocks import one_thread_an_operation
from warehouse.ingest import ingest
from warehouse.signal.readers import find_sources
from warehouse.store import open_stores
file, data_dir, models = sys.argv[1:]
one_thread_an_operation()
settings = load_settings(overrides={"data_dir": Path(data_dir)})
with open_stores(None, None, settings.data_dir) as stores:
    started = time.perf_counter()
    sources, failures = find_sources([file])
    report = ingest(sources, settings, stores)
    ingested = time.perf_counter()
    scored = score(settings, stores)
    ended = time.perf_counter()
mb = peak_memory_bytes() / 2**20
print(json.dumps({"ingest_s": ingested - started, "score_s": ended - ingested, "windows": scored.scored, "mb": mb}))
"""


def bench_holter(settings: Settings, demo: Stores, scratch: Path) -> dict[str, Any]:
    """Seconds for 24 hours of two leads, over neurokit2's ecg_peaks alone, and peak memory over that of two hours.

    The recording is real records one after another where ECG_MITDB_DIR names some, else a simulated one.

    Args:
        demo: holds the model.
    """
    half_hours = _half_hours(settings)
    taken = {}
    for hours in (SHORT_HOURS, HOURS):
        folder = scratch / f"holter-{hours}"
        file = _write_wfdb(folder / "file", half_hours, hours)
        _give_model(settings, demo, folder / "data")
        taken[hours] = _run(file, folder / "data")
        if hours != HOURS:
            shutil.rmtree(folder)
    seconds = taken[HOURS]["ingest_s"] + taken[HOURS]["score_s"]
    peaks = _ecg_peaks_seconds(_tile(half_hours, HOURS)[:, 0])
    return {
        "holter_seconds": spread([seconds]),
        "holter_ingest_seconds": spread([taken[HOURS]["ingest_s"]]),
        "holter_score_seconds": spread([taken[HOURS]["score_s"]]),
        "holter_windows": spread([taken[HOURS]["windows"]]),
        "holter_over_ecg_peaks": spread([seconds / peaks]),
        "holter_memory_mb": spread([taken[HOURS]["mb"]]),
        "holter_memory_24h_over_2h": spread([taken[HOURS]["mb"] / taken[SHORT_HOURS]["mb"]]),
    }


def _half_hours(settings: Settings) -> list[npt.NDArray[np.float32]]:
    """Signals of half an hour, float32 (n, 2), millivolts."""
    if settings.mitdb_dir is None:
        source = simulate_recording(name="s", duration_s=1800, sampling_rate_hz=RATE_HZ, leads=("MLII", "V1"), seed=1)
        return [np.asarray(source.samples, dtype=np.float32)]
    names = ("100", "101", "103", "106", "115", "122")
    sources = [open_source(SourceRef("wfdb", settings.mitdb_dir / f"{name}.hea", name)) for name in names]
    return [np.nan_to_num(source.read(0, source.header.n_samples)[:, :2]).astype(np.float32) for source in sources]


def _tile(half_hours: list[npt.NDArray[np.float32]], hours: int) -> npt.NDArray[np.float32]:
    n = hours * 3600 * RATE_HZ
    parts = [half_hours[i % len(half_hours)] for i in range(2 * hours + len(half_hours))]
    return np.concatenate(parts)[:n]


def _write_wfdb(folder: Path, half_hours: list[npt.NDArray[np.float32]], hours: int) -> Path:
    folder.mkdir(parents=True)
    counts = np.clip(np.rint(_tile(half_hours, hours) * 200), -32767, 32767).astype("<i2")
    counts.tofile(folder / "holter.dat")
    n = len(counts)
    lines = [f"holter 2 {RATE_HZ} {n}"]
    for i, lead in enumerate(("MLII", "V1")):
        checksum = int(counts[:, i].astype(np.int64).sum()) & 0xFFFF
        checksum = checksum - 0x10000 if checksum & 0x8000 else checksum
        lines.append(f"holter.dat 16 200/mV 16 0 {counts[0, i]} {checksum} 0 {lead}")
    (folder / "holter.hea").write_text("\n".join(lines) + "\n", encoding="ascii")
    return folder / "holter.hea"


def _give_model(settings: Settings, demo: Stores, data_dir: Path) -> None:
    """A data folder with the demo's released model, and nothing else."""
    model = demo.results.models(demo.results.release().stable)[0]
    name, version = model.model_name, str(model.model_version)
    shutil.copytree(settings.models_dir / name / version, data_dir / "models" / name / version)
    script = (
        "import json, sys; from pathlib import Path; from warehouse.store import open_stores\n"
        "with open_stores(None, None, Path(sys.argv[1])) as s: s.results.register_model(json.load(sys.stdin))"
    )
    row = {key: value for key, value in vars(model).items() if key != "registered_at"}
    subprocess.run([sys.executable, "-c", script, str(data_dir)], input=json.dumps(row), text=True, check=True)


def _run(file: Path, data_dir: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(file), str(data_dir), ""], stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _ecg_peaks_seconds(lead_mv: npt.NDArray[np.float32]) -> float:
    import neurokit2

    started = time.perf_counter()
    neurokit2.ecg_peaks(lead_mv, sampling_rate=RATE_HZ)
    return time.perf_counter() - started
