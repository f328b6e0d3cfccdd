"""Migrations with rows in the tables: back to every earlier schema and forward again; killed in the middle."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from store_world import add_model, add_recording, read, scored
from warehouse_help import content

from warehouse.store import Stores, open_stores
from warehouse.store.database import MIGRATIONS, DatabaseUrls, migrate
from warehouse.store.dumps import counts, snapshot
from warehouse.store.records import Beat, Opinion

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[2]
_OF_RECORDINGS = ("recordings", "window_sets", "windows", "patients", "dead_letters", "unusable_spans")
_OF_RESULTS = ("scores", "anomalies", "episodes", "recording_summaries", "model_versions", "scoring_runs")


def revisions(kind: str) -> list[str]:
    return sorted(path.name[:4] for path in (MIGRATIONS / kind / "versions").glob("0*.py"))


def fill(stores: Stores) -> None:
    for i in range(2):
        window_set = add_recording(stores, f"r{i}", 40, rejected=1)
        run, block = add_model(stores, i + 1), read(stores, window_set)
        stores.results.write_scores(run, i + 1, window_set, block, scored(np.linspace(0, 3, len(block))))
        stores.results.summarise(i + 1, window_set, 80.0, gap_beats=1)
    beat = Beat(int(block.window_id[39]), window_set.recording_id, 3.0, True)
    stores.results.add_reviews("main", [beat], Opinion("ana", "reviewer", 1, "confirm"))


def rows(url: str) -> dict[str, int]:
    with snapshot(url) as (connection, _):
        return counts(connection)


def revision(url: str) -> str:
    with snapshot(url) as (connection, _):
        return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())


@pytest.fixture
def filled(new_databases: Callable[[], DatabaseUrls], tmp_path: Path) -> DatabaseUrls:
    urls = new_databases()
    with open_stores(urls.warehouse, urls.results, tmp_path) as stores:
        fill(stores)
    return urls


def test_back_and_forward_keeps_every_row_that_the_older_schema_has(filled: DatabaseUrls, tmp_path: Path) -> None:
    for kind, kept in (("warehouse", _OF_RECORDINGS), ("results", _OF_RESULTS)):
        url = getattr(filled, kind)
        before = rows(url)
        for target in reversed(revisions(kind)[:-1]):
            migrate(url, kind, target)
            assert revision(url) == target
            found = rows(url)
            assert {name: found[name] for name in kept} == {name: before[name] for name in kept}, target
            # what is there of later tables is what was there before
            assert {name: n for name, n in found.items() if before.get(name) != n} == {}, target
        for target in revisions(kind):
            migrate(url, kind, target)
        assert revision(url) == revisions(kind)[-1]
    with open_stores(filled.warehouse, filled.results, tmp_path) as stores:
        assert len(content(stores.warehouse)) == 2
        add_recording(stores, "after", 5)  # everything works on what came back
        window_set = add_recording(stores, "scored after", 10)
        block = read(stores, window_set)
        run = add_model(stores, 9)
        stores.results.write_scores(run, 9, window_set, block, scored(np.full(10, 2.0)))
        assert rows(filled.results)["scores"] == 90


def test_a_process_killed_in_the_middle_of_a_migration_has_changed_nothing(filled: DatabaseUrls) -> None:
    url = filled.results
    migrate(url, "results", "0003")
    before = rows(url)
    engine = sa.create_engine(url)
    with engine.begin() as blocker:
        blocker.execute(sa.text("LOCK TABLE anomalies IN ACCESS EXCLUSIVE MODE"))  # 0006 waits here, 0004 and 0005 ran
        command = f"from warehouse.store.database import migrate; migrate({url!r}, 'results')"
        migrating = subprocess.Popen([sys.executable, "-c", command], cwd=PROJECT)
        waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = CAST('anomalies' AS regclass)")
        deadline = time.monotonic() + 60
        while blocker.execute(waits).scalar_one() == 0:
            assert time.monotonic() < deadline
            assert migrating.poll() is None
            time.sleep(0.05)
        migrating.kill()
        assert migrating.wait() == -9
    engine.dispose()
    migrate(url, "results", "0003")  # waits until the server has noticed, and finds what it left
    assert revision(url) == "0003"
    assert rows(url) == before
    migrate(url, "results")
    assert revision(url) == revisions("results")[-1]
    found = rows(url)
    assert {name: found[name] for name in before} == before


def test_the_command_goes_back(filled: DatabaseUrls, run_cli: Callable[..., object], tmp_path: Path) -> None:
    env = {"ECG_WAREHOUSE_URL": filled.warehouse, "ECG_RESULTS_URL": filled.results}
    done = run_cli("warehouse.migrate", "--warehouse-to", "0003", "--results-to", "0004", env=env)
    assert (done.code, revision(filled.warehouse), revision(filled.results)) == (0, "0003", "0004"), done.stderr
    wrong = run_cli("warehouse.migrate", "--results-to", "9999", env=env)
    assert wrong.code == 2
    assert "is no revision" in wrong.stderr
