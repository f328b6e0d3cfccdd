"""All 48 records of MIT-BIH in real PostgreSQL."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from warehouse_help import check_whole, put_in, rows, sets_of

from configs.contract import SPLITS
from configs.settings import Settings, load_settings
from warehouse.ingest import IngestReport
from warehouse.store import Stores

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Mitdb:
    """The whole database, ingested by as many processes as there are cores."""

    stores: Stores
    settings: Settings
    report: IngestReport
    seconds: float


@pytest.fixture(scope="module")
def mitdb(mitdb_dir: Path, new_stores: Callable[[], Stores], tmp_path_factory: pytest.TempPathFactory) -> Mitdb:
    if len(list(mitdb_dir.glob("*.hea"))) != 48:
        pytest.skip(f"{mitdb_dir} does not hold the 48 records of MIT-BIH")
    settings = load_settings(overrides={"data_dir": tmp_path_factory.mktemp("mitdb")})
    stores = new_stores()
    began = time.monotonic()
    report = put_in(stores, settings, mitdb_dir)
    return Mitdb(stores, settings, report, time.monotonic() - began)


def test_all_records_are_in_within_a_minute(mitdb: Mitdb) -> None:
    report = mitdb.report
    print(f"48 records of MIT-BIH, 24 h of two leads: {mitdb.seconds:.1f} s, {report.windows} windows")
    assert (report.added, report.unchanged, report.failed) == (48, 0, 0)
    assert mitdb.seconds < 120  # under 60 on two cores with nothing else to do
    sets = mitdb.stores.warehouse.window_sets(mitdb.settings.features.digest)
    assert sum(s.n_windows for s in sets) == report.windows
    assert sum(s.n_windows + s.n_rejected for s in sets) == 109_494  # beats of the database
    assert report.windows > 109_300
    assert sum(s.duration_s for s in sets) == pytest.approx(48 * 650_000 / 360)
    check_whole(mitdb.stores.warehouse)


def test_a_second_time_adds_nothing(mitdb: Mitdb, mitdb_dir: Path) -> None:
    again = put_in(mitdb.stores, mitdb.settings, mitdb_dir)
    assert (again.added, again.unchanged, again.failed, again.windows) == (0, 48, 0, 0)


def test_splits_are_by_patient(mitdb: Mitdb) -> None:
    found = sets_of(mitdb.stores, mitdb.settings)
    assert found["201"].split == found["202"].split  # one patient
    assert rows(mitdb.stores, "SELECT count(*) FROM patients") == [(47,)]
    counts = dict(rows(mitdb.stores, "SELECT split, count(*) FROM patients GROUP BY split"))
    assert [counts[split] for split in SPLITS] == [pytest.approx(47 * share, abs=1) for share in (0.5, 0.2, 0.3)]
