"""What tests share: a clean environment, real PostgreSQL, recordings, commands as a user runs them, and looks inside."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from warehouse.store import Stores, open_stores
from warehouse.store.database import DatabaseUrls, resolve_urls
from warehouse.store.warehouse import Warehouse

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """A developer's settings stay outside; only the folder of MIT-BIH records is let in."""
    names = [name for name in os.environ if name.startswith("ECG_") and name != "ECG_MITDB_DIR"]
    taken = {name: os.environ.pop(name) for name in names}
    yield
    os.environ.update(taken)


# --- recordings ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mitdb_dir() -> Path:
    """The folder with MIT-BIH records; tests that ask for it are skipped where there is none."""
    named = os.environ.get("ECG_MITDB_DIR")
    if not named:
        pytest.skip("needs real data: ECG_MITDB_DIR does not name a folder with MIT-BIH records")
    return Path(named)


def write_wfdb(folder: Path, name: str, samples: np.ndarray, leads: Sequence[str], **options: Any) -> Path:
    """Writes a record of format 16 at 250 Hz and returns its header.

    Args:
        samples: (n, leads), millivolts.
        options: `beats`, the beats' sample numbers, with `symbols`, theirs; the rest goes to wfdb.wrsamp.
    """
    import wfdb  # takes a second, which unit tests need not spend

    folder.mkdir(parents=True, exist_ok=True)
    beats, symbols = options.pop("beats", None), options.pop("symbols", None)
    wfdb.wrsamp(
        name, fs=250, units=["mV"] * len(leads), sig_name=list(leads), p_signal=np.asarray(samples, dtype=np.float64),
        fmt=["16"] * len(leads), adc_gain=[200] * len(leads), baseline=[0] * len(leads), write_dir=str(folder), **options,
    )  # fmt: skip
    if beats is not None:
        wfdb.wrann(name, "atr", np.asarray(beats), np.asarray(symbols), write_dir=str(folder))
    return folder / f"{name}.hea"


@pytest.fixture(scope="session", name="write_wfdb")
def _write_wfdb() -> Callable[..., Path]:
    return write_wfdb


@pytest.fixture(scope="session")
def wfdb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WFDB records sim000 ... sim005 of six simulated patients: three minutes at 250 Hz, two leads, annotated."""
    from warehouse.signal.simulate import simulate_cohort

    folder = tmp_path_factory.mktemp("wfdb")
    for source in simulate_cohort(6, duration_s=180, sampling_rate_hz=250, seed=11):
        header = source.header
        write_wfdb(
            folder, header.name, source.samples, header.leads, comments=[f"{header.age_years} {header.sex[0].upper()}"],
            beats=np.rint(source.beats.time_s * 250).astype(int), symbols=source.beats.symbol,
        )  # fmt: skip
    return folder


# --- databases -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> sa.URL:
    """A real PostgreSQL that nothing else uses; it stops with the tests."""
    urls = resolve_urls(None, None, tmp_path_factory.mktemp("server"))
    return sa.make_url(urls.warehouse).set(database="postgres")


@pytest.fixture(scope="session")
def new_databases(postgres: sa.URL) -> Callable[[], DatabaseUrls]:
    """Makes two new, empty databases (without any table) and returns their URLs."""
    numbers = itertools.count()

    def make() -> DatabaseUrls:
        names = [f"test{next(numbers)}_{kind}" for kind in ("warehouse", "results")]
        engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            for name in names:
                connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return DatabaseUrls(*(postgres.set(database=name).render_as_string(hide_password=False) for name in names))

    return make


@pytest.fixture(scope="module")
def new_stores(
    new_databases: Callable[[], DatabaseUrls], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Stores]]:
    """Makes new databases with their tables and opens them until the module's tests are done."""
    with contextlib.ExitStack() as stack:

        def make() -> Stores:
            urls = new_databases()
            unused = tmp_path_factory.getbasetemp() / "no-embedded-server"
            return stack.enter_context(open_stores(urls.warehouse, urls.results, unused))

        yield make


_WINDOW_COLUMNS = (
    "r_peak_s, samples, lead_mask, rr_prev_s, rr_next_s, rr_median_s, rr_p90_s, template, template_beats, quality, "
    "symbol, aami_class, label_source"
)
_CONTENT = f"""
SELECT r.name, r.version, s.feature_version, p.split, p.sex, p.age_band, r.checksum, r.leads, r.duration_s,
    r.superseded_by IS NULL AS current, r.annotated, r.simulated, s.lead_slots, s.r_peak_source, s.n_windows,
    s.n_rejected, s.windowed_s, s.unusable_s, s.suspect_inverted,
    (SELECT count(*) FROM windows w WHERE w.window_id >> 24 = s.window_set_id) AS window_rows,
    (SELECT md5(string_agg(md5(ROW(window_id & 16777215, {_WINDOW_COLUMNS})::text), '' ORDER BY window_id))
        FROM windows w WHERE w.window_id >> 24 = s.window_set_id) AS window_md5,
    (SELECT array_agg(ROW(ordinal, start_s, end_s, lead, reason)::text ORDER BY ordinal)
        FROM unusable_spans u WHERE u.window_set_id = s.window_set_id) AS spans,
    (SELECT array_agg(ROW(beat_index, r_peak_s, symbol, reason, detail)::text ORDER BY beat_index)
        FROM dead_letters d WHERE d.window_set_id = s.window_set_id) AS rejected
FROM recordings r JOIN patients p USING (patient_id) LEFT JOIN window_sets s USING (recording_id)
ORDER BY r.name, r.checksum, s.feature_version
"""
_FAULTS = {
    "window sets with another number of windows than they say": """
        SELECT s.window_set_id FROM window_sets s LEFT JOIN windows w ON w.window_id >> 24 = s.window_set_id
        GROUP BY s.window_set_id HAVING count(w.window_id) <> s.n_windows""",
    "window sets with another number of rejected beats than they say": """
        SELECT s.window_set_id FROM window_sets s LEFT JOIN dead_letters d USING (window_set_id)
        GROUP BY s.window_set_id HAVING count(d.dead_letter_id) <> s.n_rejected""",
    "window sets whose time is not all windowed or unusable": """
        SELECT s.window_set_id, r.duration_s, s.windowed_s, s.unusable_s FROM window_sets s JOIN recordings r
        USING (recording_id) WHERE abs(s.windowed_s + s.unusable_s - r.duration_s) > 1e-6 OR s.windowed_s < 0""",
    "window sets whose unusable time is not that of their spans": """
        SELECT s.window_set_id, s.unusable_s FROM window_sets s LEFT JOIN unusable_spans u
        ON u.window_set_id = s.window_set_id AND u.lead IS NULL GROUP BY s.window_set_id
        HAVING abs(coalesce(sum(u.end_s - u.start_s), 0) - s.unusable_s) > 1e-6""",
    "windows of no window set": """
        SELECT window_id FROM windows WHERE window_id >> 24 NOT IN (SELECT window_set_id FROM window_sets)""",
    "recordings without a window set": """
        SELECT name FROM recordings WHERE recording_id NOT IN (SELECT recording_id FROM window_sets)""",
    "sources with more or fewer than one current version": """
        SELECT source_key FROM recordings GROUP BY source_key HAVING count(*) FILTER (WHERE superseded_by IS NULL) <> 1""",
    "windows at another time than start and R peak say": """
        SELECT w.window_id FROM windows w JOIN window_sets s ON w.window_id >> 24 = s.window_set_id JOIN recordings r
        USING (recording_id) WHERE abs(extract(epoch FROM w.recorded_at - r.start_time) - w.r_peak_s) > 2e-6""",
}


@pytest.fixture(scope="session")
def content() -> Callable[[Warehouse], list[dict[str, Any]]]:
    """All a warehouse holds of its recordings, without numbers and times that differ from one ingest to the next."""

    def look(warehouse: Warehouse) -> list[dict[str, Any]]:
        with warehouse.transaction() as connection:
            return [dict(row) for row in connection.execute(sa.text(_CONTENT)).mappings()]

    return look


@pytest.fixture(scope="session")
def check_whole() -> Callable[[Warehouse], None]:
    """Asserts that no recording is in by half, and that every second and every beat is accounted for."""

    def check(warehouse: Warehouse) -> None:
        with warehouse.transaction() as connection:
            found = {fault: connection.execute(sa.text(query)).all() for fault, query in _FAULTS.items()}
        assert {fault: rows for fault, rows in found.items() if rows} == {}

    return check


# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def command_environment(tmp_path: Path) -> Callable[[Mapping[str, str] | None], dict[str, str]]:
    """The environment of a command: this one, data in the test's own folder, and what the test sets."""
    return lambda env=None: {**os.environ, "ECG_DATA_DIR": str(tmp_path / "data"), **(env or {})}


@pytest.fixture
def run_cli(command_environment: Callable[..., dict[str, str]]) -> Callable[..., Ran]:
    """Runs `python -m MODULE ARGUMENTS` in the project's folder, as a user does, and waits for its end."""

    def run(module: str, *arguments: object, env: Mapping[str, str] | None = None, timeout_s: float = 300) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=PROJECT, env=command_environment(env), capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start_cli(command_environment: Callable[..., dict[str, str]]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m MODULE ARGUMENTS` in a process group of its own, which is killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(module: str, *arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=PROJECT, env=command_environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
