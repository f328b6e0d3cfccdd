"""Bad input to `python -m warehouse.ingest`: one clear line each, an exit code that means something, nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ecg_files import write_csv, write_edf
from warehouse_help import check_whole, content, put_in, sets_of

from configs.errors import EXIT_CONFIGURATION, EXIT_DATA, EXIT_OK, EXIT_UNAVAILABLE, UnavailableError
from configs.settings import Settings, load_settings
from warehouse.store import Stores, open_stores

pytestmark = pytest.mark.integration

Cli = Callable[..., Any]


@dataclass(frozen=True)
class Site:
    """Databases that hold one recording already, and how a command reaches them."""

    stores: Stores
    env: Mapping[str, str]
    before: list[dict[str, Any]]


@pytest.fixture
def site(new_stores: Callable[[], Stores], ingest_settings: Settings, wfdb_folder: Path) -> Site:
    stores = new_stores()
    put_in(stores, ingest_settings, wfdb_folder / "sim000.hea")
    env = {"ECG_WAREHOUSE_URL": stores.warehouse.url, "ECG_RESULTS_URL": stores.results.url, "ECG_INGEST__WORKERS": "1"}
    return Site(stores, env, content(stores.warehouse))


def check_one_line(stderr: str, *words: str) -> None:
    """The whole of standard error is one line, an error, that has all these words."""
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1, stderr
    assert [word for word in words if word not in stderr] == []


# --- files -----------------------------------------------------------------------------------------------------------


def spoil(folder: Path, wfdb_folder: Path) -> dict[str, tuple[str, ...]]:
    """Writes bad files into the folder; to each its path and what its line has to say."""

    def copy(name: str, *suffixes: str) -> Path:
        for suffix in suffixes:
            shutil.copy(wfdb_folder / f"{name}{suffix}", folder)
        return folder / f"{name}.hea"

    copy("sim001", ".hea")
    (folder / "sim001.dat").touch()
    copy("sim002", ".hea")
    (folder / "sim002.dat").write_bytes((wfdb_folder / "sim002.dat").read_bytes()[:-5000])
    header = copy("sim003", ".hea", ".dat")
    header.write_text(header.read_text().replace(" 45000", " 60000"))
    header = copy("sim004", ".hea", ".dat")
    header.write_text(header.read_text().replace("200(0)/mV", "200(0)/furlong"))
    copy("sim005", ".hea", ".dat")
    (folder / "sim005.atr").write_bytes((wfdb_folder / "sim005.atr").read_bytes()[:301])
    lines = write_csv(folder / "text.csv").read_text().splitlines()
    (folder / "text.csv").write_text("\n".join([*lines[:100], "lead off", *lines[100:]]) + "\n")
    (folder / "unit.csv").write_text("# sampling_rate_hz: 250\nII (furlong)\n" + "\n".join(lines[2:]) + "\n")
    (folder / "rate.csv").write_text("\n".join(lines[1:]) + "\n")
    edf = write_edf(folder / "cut.edf", started=datetime(2024, 5, 1)).read_bytes()
    (folder / "cut.edf").write_bytes(edf[:-1000])
    (folder / "damaged.edf").write_bytes(edf[:168] + b"99.99.99" + edf[176:])
    (folder / "no.edf").write_bytes(b"\x89PNG\r\n" + bytes(5000))
    (folder / "odd [red].csv").write_text("a picture of a heart\n")
    return {
        "sim001.dat": ("is empty", "Fetch it again"),
        "sim002.dat": ("is cut off", "Fetch it again"),
        "sim003.dat": ("is cut off: 180000 of the 240000 bytes", "Fetch it again"),
        "sim004.hea": ("furlong",),
        "sim005.atr": ("pairs of bytes", "Fetch the annotation file again"),
        "text.csv": ("line 101, column 'II_mV': 'lead off' is not a number", "Cells are numbers"),
        "unit.csv": ("column 'II (furlong)' has unknown unit 'furlong'", "II_mV"),
        "rate.csv": ("sampling", "sampling_rate_hz: 360"),
        "cut.edf": ("is cut off", "Export or fetch"),
        "damaged.edf": ("is not a valid EDF file", "startdate"),
        "no.edf": ("is not an EDF file", "Export or fetch"),
        "odd [red].csv": ("no unit", "II_mV"),
    }


def test_bad_files_have_a_line_each_and_the_good_one_is_in(
    site: Site, run_cli: Cli, wfdb_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    expected = spoil(folder, wfdb_folder) | {"nowhere.edf": ("does not exist", "Give a")}
    write_csv(folder / "good.csv", seed=8)
    report_file = tmp_path / "out" / "report.json"
    ran = run_cli("warehouse.ingest", folder, folder / "nowhere.edf", "--json", report_file, env=site.env)
    assert ran.code == EXIT_DATA
    *lines, counts, last = ran.stderr.splitlines()
    assert "Traceback" not in ran.stderr
    assert len(lines) == len(expected)
    for name, words in expected.items():
        (line,) = [one for one in lines if f"{folder}/{name}: " in one]
        assert line.startswith("failed: ")
        assert [word for word in words if word not in line] == [], line
    assert counts.startswith("Recordings: 1 added, 0 unchanged, 13 failed.")
    assert last == "error: 13 of the sources could not be ingested; the others are in"

    report = json.loads(report_file.read_text())
    assert list(report) == ["recordings", "windows", "unusable_seconds", "failures"]
    assert report["recordings"] == {"added": 1, "unchanged": 0, "failed": 13}
    assert sorted(f"failed: {failure}" for failure in report["failures"]) == sorted(lines)
    with site.stores.warehouse.transaction() as connection:
        sources = connection.execute(sa.text("SELECT source FROM dead_letters WHERE reason = 'source'")).scalars()
        assert sorted(sources) == sorted(expected)
    after = content(site.stores.warehouse)
    assert [row for row in after if row["name"] == "sim000"] == site.before
    (good,) = [row for row in after if row["name"] == "good"]
    assert len(after) == 2
    assert good["n_windows"] == report["windows"] > 30
    assert report["unusable_seconds"] == pytest.approx(good["unusable_s"], abs=1e-3)
    check_whole(site.stores.warehouse)


def test_debug_shows_the_traceback(run_cli: Cli, tmp_path: Path) -> None:
    profile = tmp_path / "none.yaml"
    ran = run_cli("warehouse.ingest", tmp_path, "--profile", profile, "--debug")
    assert ran.code == 1
    assert "Traceback (most recent call last)" in ran.stderr
    assert f"ConfigurationError: {profile}: no such profile" in ran.stderr.replace("configs.errors.", "")


# --- configuration ---------------------------------------------------------------------------------------------------

WRONG_SETTINGS: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
    "profile key": ({}, "ingest:\n  wrokers: 2\n", ("profile.yaml, key ingest.wrokers", "docs/configuration.md")),
    "profile that is no YAML": ({}, "ingest: [1, 2\n", ("profile.yaml", "cannot be read as YAML")),
    "variable": ({"ECG_INGEST__BLOCK_S": "fast"}, "", ("environment variable ECG_INGEST__BLOCK_S", "valid number")),
    "variable's name": (
        {"ECG_WORKERS": "2"},
        "",
        ("environment variable ECG_WORKERS", "is not a setting", "ECG_INGEST"),
    ),
    "detector": ({"ECG_INGEST__DETECTOR": "guess"}, "", ("guess", "neurokit")),
    "url": ({"ECG_WAREHOUSE_URL": "mysql://u:sekret@h/d"}, "", ("ECG_WAREHOUSE_URL", "must be a PostgreSQL URL")),
}


@pytest.mark.parametrize("wrong", WRONG_SETTINGS)
def test_a_wrong_setting_is_named(site: Site, run_cli: Cli, tmp_path: Path, wrong: str) -> None:
    env, profile, words = WRONG_SETTINGS[wrong]
    path = tmp_path / "profile.yaml"
    path.write_text(profile)
    strip = write_csv(tmp_path / "strip.csv", seed=9)
    ran = run_cli("warehouse.ingest", strip, "--profile", path, env={**site.env, **env})
    assert ran.code == EXIT_CONFIGURATION
    check_one_line(ran.stderr, *words)
    assert "sekret" not in ran.stderr
    assert content(site.stores.warehouse) == site.before


# --- databases and disks ---------------------------------------------------------------------------------------------


def test_a_database_that_is_down(run_cli: Cli, wfdb_folder: Path, tmp_path: Path) -> None:
    url = "postgresql://ecg:sekret@127.0.0.1:1/warehouse"
    report = tmp_path / "report.json"
    env = {"ECG_WAREHOUSE_URL": url, "ECG_RESULTS_URL": url}
    ran = run_cli("warehouse.ingest", wfdb_folder, "--json", report, env=env)
    assert ran.code == EXIT_UNAVAILABLE
    check_one_line(ran.stderr, "ecg:***@127.0.0.1:1/warehouse", "Connection refused", "Check that it runs")
    assert not report.exists()


def test_a_data_folder_that_is_a_file(run_cli: Cli, wfdb_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    ran = run_cli("warehouse.ingest", wfdb_folder)
    assert ran.code == EXIT_UNAVAILABLE
    check_one_line(ran.stderr, str(tmp_path / "data"), "Set ECG_DATA_DIR")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 MB of its own; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk to fill")
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    stop_server_and_unmount(folder)


def stop_server_and_unmount(disk: Path) -> None:
    """The server would outlive the tests: it stops with its last user, but only while its folder is there."""
    lock = disk / "data" / "postgres" / "postmaster.pid"
    if lock.exists():
        os.kill(int(lock.read_text().split()[0]), signal.SIGINT)  # PostgreSQL's fast shutdown
    for _ in range(200):
        if subprocess.run(["umount", str(disk)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, *, leave_mb: float) -> None:
    """Makes a file so large that only so much is left."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb") as file:
        for _ in range(max(0, int((shutil.disk_usage(disk).free - leave_mb * 2**20) / 2**14))):
            file.write(bytes(2**14))


def test_a_disk_that_fills(small_disk: Path, run_cli: Cli, wfdb_folder: Path) -> None:
    env = {"ECG_DATA_DIR": str(small_disk / "data"), "ECG_INGEST__WORKERS": "1"}
    assert run_cli("warehouse.ingest", wfdb_folder / "sim000.hea", env=env).code == EXIT_OK
    settings = load_settings(overrides={"data_dir": small_disk / "data", "ingest": {"workers": 1}})

    # in time: the database is not let run into the end of its disk
    fill(small_disk, leave_mb=49.5)
    ran = run_cli("warehouse.ingest", wfdb_folder, env=env)
    assert ran.code == EXIT_UNAVAILABLE
    check_one_line(ran.stderr, str(small_disk / "data"), "the disk is full", "takes up to 49", "Free space")
    with open_stores(None, None, settings.data_dir) as stores:
        kept = content(stores.warehouse)
        assert kept[0]["name"] == "sim000"
        assert len(kept) < 6
        check_whole(stores.warehouse)
        # too late: somebody else takes the rest of the disk while it is written
        fill(small_disk, leave_mb=0.1)
        elsewhere = settings.model_copy(update={"warehouse_url": stores.warehouse.url})
        with pytest.raises(UnavailableError, match="disk is full"):
            put_in(stores, elsewhere, wfdb_folder)
        after = content(stores.warehouse)
        assert kept == [row for row in after if row["name"] in {one["name"] for one in kept}]
        window_set = sets_of(stores, settings)["sim000"]
        assert (
            len(stores.warehouse.read_block(settings.features, *window_set.id_range(0, 1000))) == window_set.n_windows
        )
        # space again: it goes on where it stopped
        (small_disk / "ballast").unlink()
        report = put_in(stores, settings, wfdb_folder)
        assert (report.added, report.unchanged) == (6 - len(after), len(after))
        check_whole(stores.warehouse)
