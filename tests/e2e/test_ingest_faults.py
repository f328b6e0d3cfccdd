"""`python -m warehouse.ingest` killed, or stopped with Ctrl-C, at several moments, and run again."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import sqlalchemy as sa
from ecg_files import write_wfdb
from warehouse_help import check_whole, content, put_in

from configs.errors import EXIT_OK
from configs.settings import load_settings
from warehouse.signal.simulate import simulate_cohort
from warehouse.store import Stores

pytestmark = pytest.mark.e2e

Start = Callable[..., "subprocess.Popen[str]"]
N_RECORDINGS = 6
# Two processes, and blocks so short that a recording takes many of them
SETTINGS = {"ECG_INGEST__WORKERS": "2", "ECG_INGEST__BLOCK_S": "30", "ECG_PSEUDONYM_KEY": "the same for all runs"}


@pytest.fixture(scope="module")
def long_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six annotated records of 20 minutes, each the same two minutes of its patient over and over."""
    folder = tmp_path_factory.mktemp("long")
    for source in simulate_cohort(N_RECORDINGS, duration_s=120, sampling_rate_hz=250, seed=21):
        beats = np.rint(source.beats.time_s * 250).astype(int)
        write_wfdb(
            folder, source.header.name, np.tile(source.samples, (10, 1)), source.header.leads,
            beats=np.concatenate([beats + i * len(source.samples) for i in range(10)]),
            symbols=np.tile(source.beats.symbol, 10),
        )  # fmt: skip
    return folder


@dataclass(frozen=True)
class Target:
    """Databases that a command is pointed at, and what can be seen in them while it runs."""

    stores: Stores

    @property
    def env(self) -> dict[str, str]:
        return {**SETTINGS, "ECG_WAREHOUSE_URL": self.stores.warehouse.url, "ECG_RESULTS_URL": self.stores.results.url}

    def recordings(self) -> int:
        return self._number("SELECT count(*) FROM recordings")

    def writers(self) -> int:
        """Transactions that have written windows and are not committed."""
        return self._number(
            "SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_database d "
            "ON d.oid = l.database WHERE c.relname LIKE 'windows_y%' AND l.mode = 'RowExclusiveLock' AND l.granted "
            "AND d.datname = current_database()"
        )

    def _number(self, query: str) -> int:
        with self.stores.warehouse.transaction() as connection:
            return int(connection.execute(sa.text(query)).scalar_one())


@pytest.fixture(scope="module")
def undisturbed(new_stores: Callable[[], Stores], long_records: Path) -> list[dict[str, Any]]:
    """What an ingest leaves that nobody disturbs."""
    stores = new_stores()
    key = SETTINGS["ECG_PSEUDONYM_KEY"]
    report = put_in(stores, load_settings(overrides={"ingest": {"workers": 1}, "pseudonym_key": key}), long_records)
    assert report.added == N_RECORDINGS
    check_whole(stores.warehouse)
    return content(stores.warehouse)


def wait_until(process: "subprocess.Popen[str]", reached: Callable[[], bool]) -> None:
    """Polls until a moment is reached; the process must not end before."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, f"ended too early: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.01)


def group_of(leader: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def workers_of(leader: int) -> list[int]:
    """Processes that have been started to cut recordings."""
    found = []
    for pid in group_of(leader):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "--multiprocessing-fork" in psutil.Process(pid).cmdline():
                found.append(pid)
    return found


def wait_for_the_group_to_end(leader: int) -> None:
    deadline = time.monotonic() + 20
    while left := group_of(leader):
        assert time.monotonic() < deadline, f"still there: {[psutil.Process(pid).cmdline() for pid in left]}"
        time.sleep(0.05)


def test_killed_again_and_again_and_run_to_the_end(
    new_stores: Callable[[], Stores],
    start_cli: Start,
    run_cli: Callable[..., Any],
    long_records: Path,
    undisturbed: list[dict[str, Any]],
) -> None:
    target = Target(new_stores())
    moments: dict[str, Callable[[], bool]] = {
        "in the first recordings": lambda: target.writers() > 0,
        "only the parent, after some, in the next": lambda: target.recordings() >= 2 and target.writers() > 0,
        "near the end": lambda: target.recordings() >= 4 and target.writers() > 0,
    }
    known = 0
    for moment, reached in moments.items():
        process = start_cli("warehouse.ingest", long_records, env=target.env)
        wait_until(process, reached)
        if "only the parent" in moment:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=20) == -signal.SIGKILL
        wait_for_the_group_to_end(process.pid)  # workers do not go on without their parent
        check_whole(target.stores.warehouse)
        assert known <= target.recordings() < N_RECORDINGS, moment
        known = target.recordings()
    ran = run_cli("warehouse.ingest", long_records, env=target.env)
    assert ran.code == EXIT_OK, ran.stderr
    assert f"{N_RECORDINGS - known} added, {known} unchanged, 0 failed" in ran.stderr
    assert content(target.stores.warehouse) == undisturbed
    check_whole(target.stores.warehouse)


@pytest.mark.parametrize("moment", ["while it writes", "while it starts its workers"])
def test_ctrl_c_stops_it_with_one_line(
    new_stores: Callable[[], Stores], start_cli: Start, long_records: Path, moment: str
) -> None:
    target = Target(new_stores())
    process = start_cli("warehouse.ingest", long_records, env=target.env)
    if moment == "while it writes":
        wait_until(process, lambda: target.recordings() >= 1 and target.writers() > 0)
    else:
        wait_until(process, lambda: len(workers_of(process.pid)) > 0)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (130, "", "error: stopped\n")
    wait_for_the_group_to_end(process.pid)
    assert target.recordings() < N_RECORDINGS
    check_whole(target.stores.warehouse)


def test_the_embedded_server_survives_a_kill_and_stops_with_the_next_run(
    start_cli: Start, run_cli: Callable[..., Any], long_records: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data" / "postgres"

    def servers() -> list[int]:
        named = [(p.info["pid"], p.info["cmdline"] or []) for p in psutil.process_iter(["pid", "cmdline"])]
        return [pid for pid, line in named if str(data) in line]

    process = start_cli("warehouse.ingest", long_records, env=SETTINGS)
    wait_until(process, lambda: len(workers_of(process.pid)) > 0)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    assert len(servers()) == 1
    one = long_records / "sim000.hea"
    ran = run_cli("warehouse.ingest", one, env=SETTINGS)
    assert ran.code == EXIT_OK, ran.stderr
    assert "Recordings: 1 added" in ran.stderr
    assert servers() == []
