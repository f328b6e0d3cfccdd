"""Ingest into real PostgreSQL: splits, time, formats, and what is not stored of a patient."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from ecg_files import write_csv, write_edf, write_wfdb
from warehouse_help import NOW, check_whole, put_in, rows, sets_of

from configs.settings import Settings
from warehouse.ingest import ingest, ucr_spec
from warehouse.signal.simulate import simulate_cohort
from warehouse.store import Stores
from warehouse.store import tables as t

pytestmark = pytest.mark.integration

# --- splits ----------------------------------------------------------------------------------------------------------


def test_splits_are_balanced_and_stay_when_data_is_added(
    new_stores: Callable[[], Stores], ingest_settings: Settings, wfdb_folder: Path
) -> None:
    stores = new_stores()
    half = [wfdb_folder / f"sim00{i}.hea" for i in range(3)]
    put_in(stores, ingest_settings, *half)
    early = {name: s.split for name, s in sets_of(stores, ingest_settings).items()}
    assert sorted(early.values()) == ["calibration", "test", "train"]
    put_in(stores, ingest_settings, wfdb_folder)
    all_six = {name: s.split for name, s in sets_of(stores, ingest_settings).items()}
    assert {name: all_six[name] for name in early} == early
    assert Counter(all_six.values()) == {"train": 3, "calibration": 1, "test": 2}


@pytest.mark.parametrize("shares", [{"train": 0.5, "calibration": 0.2, "test": 0.3}, {"train": 0.7, "test": 0.3}])
def test_no_split_is_a_patient_away_from_its_share(new_stores: Callable[[], Stores], shares: dict[str, float]) -> None:
    warehouse = new_stores().warehouse
    found: list[str] = []
    for first in range(0, 60, 4):
        patients = [(f"patient {i}", "unknown", "unknown") for i in range(first, first + 4)]
        found += [patient.split for patient in warehouse.ensure_patients(patients, shares).values()]
        for split, share in shares.items():
            assert abs(found.count(split) - share * len(found)) < 1


def test_a_forced_split_is_for_new_patients_only(
    new_stores: Callable[[], Stores], ingest_settings: Settings, wfdb_folder: Path
) -> None:
    stores = new_stores()
    put_in(stores, ingest_settings, wfdb_folder / "sim000.hea", split="calibration")
    put_in(stores, ingest_settings, *(wfdb_folder / f"sim00{i}.hea" for i in range(3)), split="test")
    put_in(stores, ingest_settings, wfdb_folder, splits_by_name={"sim000": "test", "sim004": "test"}, split="train")
    splits = {name: s.split for name, s in sets_of(stores, ingest_settings).items()}
    assert [splits[f"sim00{i}"] for i in range(6)] == ["calibration", "test", "test", "train", "test", "train"]


def test_recordings_of_a_patient_share_the_split(
    new_stores: Callable[[], Stores], ingest_settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    for i in range(6):  # two patients in turn
        code = {"PatientCode": f"P{i % 2}", "Birthdate": date(1950, 6, 1), "Sex": i % 2}
        write_edf(tmp_path / f"{i}.edf", started=datetime(2024, 5, 1 + i), seed=i, **code)
    put_in(stores, ingest_settings, tmp_path)
    found = sets_of(stores, ingest_settings)
    assert len(found) == 6
    assert len({found[str(i)].split for i in (0, 2, 4)}) == len({found[str(i)].split for i in (1, 3, 5)}) == 1
    assert {(s.sex, s.age_band) for s in found.values()} == {("female", "65-79"), ("male", "65-79")}
    assert rows(stores, "SELECT count(*), count(DISTINCT split) FROM patients") == [(2, 2)]


# --- time, other sources, privacy ------------------------------------------------------------------------------------


def test_troubled_recordings_are_accounted_for_and_marked_as_simulated(
    new_stores: Callable[[], Stores], ingest_settings: Settings, wfdb_folder: Path
) -> None:
    stores = new_stores()
    cohort = simulate_cohort(10, duration_s=60, sampling_rate_hz=200, seed=5)
    report = ingest(cohort, ingest_settings, stores, now=NOW)
    put_in(stores, ingest_settings, wfdb_folder / "sim003.hea")
    assert (report.added, report.failed) == (10, 0)
    check_whole(stores.warehouse)
    assert {row[0] for row in rows(stores, "SELECT DISTINCT reason FROM unusable_spans")} >= {"edge", "lead_off"}
    query = (
        "SELECT r.source_format, r.simulated, label_source::text, count(DISTINCT r.recording_id) FROM recordings r "
        "JOIN window_sets s USING (recording_id) JOIN windows w ON w.window_id >> 24 = s.window_set_id "
        "GROUP BY 1, 2, 3 ORDER BY 1"
    )
    assert [tuple(row) for row in rows(stores, query)] == [
        ("simulated", True, "simulator", 10),
        ("wfdb", False, "reference", 1),
    ]
    assert ingest(cohort, ingest_settings, stores, now=NOW).unchanged == 10


def test_a_night_over_the_end_of_a_month_is_in_two_partitions(
    new_stores: Callable[[], Stores], ingest_settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    source = simulate_cohort(1, duration_s=120, sampling_rate_hz=250, seed=9)[0]
    start = datetime(2024, 12, 31, 23, 59)
    options = {"base_date": start.date(), "base_time": start.time()}
    write_wfdb(tmp_path, "night", source.samples, source.header.leads, **options)
    put_in(stores, ingest_settings, tmp_path / "night.hea")
    window_set = sets_of(stores, ingest_settings)["night"]
    assert window_set.start_time == start.replace(tzinfo=UTC)
    counts = dict(rows(stores, "SELECT tableoid::regclass::text, count(*) FROM windows GROUP BY 1"))
    before = rows(stores, "SELECT count(*) FROM windows WHERE r_peak_s < 60")[0][0]
    assert counts == {"windows_y2024m12": before, "windows_y2025m01": window_set.n_windows - before}
    assert 50 < before < 100
    block = stores.warehouse.read_block(ingest_settings.features, *window_set.id_range(0, window_set.n_beats))
    assert len(block) == window_set.n_windows
    assert (np.diff(block.r_peak_s) > 0).all()
    check_whole(stores.warehouse)


def test_ucr_windows_have_a_geometry_of_their_own(
    new_stores: Callable[[], Stores], ingest_settings: Settings, wfdb_folder: Path, tmp_path: Path
) -> None:
    stores = new_stores()
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1, (20, 140)).round(3)
    samples[5, 70], samples[9, 3] = np.nan, 99.0
    lines = [" ".join([str(1 + i % 5), *map(str, row)]) for i, row in enumerate(samples.tolist())]
    (tmp_path / "ECG5000_TRAIN.txt").write_text("\n".join(lines) + "\n")
    report = put_in(stores, ingest_settings, tmp_path / "ECG5000_TRAIN.txt", wfdb_folder / "sim000.hea")
    assert (report.added, report.failed) == (2, 0)
    spec = ucr_spec(140)
    (window_set,) = stores.warehouse.window_sets(spec.digest)
    assert (window_set.n_windows, window_set.n_rejected, window_set.duration_s, window_set.unusable_s) == (
        18,
        2,
        20.0,
        2.0,
    )
    block = stores.warehouse.read_block(spec, *window_set.id_range(0, 20))
    kept = np.delete(np.arange(20), [5, 9])
    np.testing.assert_array_equal(block.r_peak_s, kept)
    np.testing.assert_array_equal(block.samples[:, :, 0], np.rint(samples[kept] * 1000))
    np.testing.assert_array_equal(block.aami_class, np.where(kept % 5 == 0, b"N", b"Q"))
    found = rows(
        stores,
        "SELECT beat_index, symbol, reason FROM dead_letters WHERE symbol IS NOT NULL AND symbol <> 'N' ORDER BY 1",
    )
    assert [tuple(row) for row in found] == [(5, "1", "gap"), (9, "5", "amplitude")]
    assert list(sets_of(stores, ingest_settings)) == ["sim000"]
    check_whole(stores.warehouse)


NAME = "Zebrowska"


def test_nothing_that_names_a_patient_is_stored(
    new_stores: Callable[[], Stores], ingest_settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    folder = tmp_path / f"{NAME} Agata"
    folder.mkdir()
    told = {"PatientCode": f"{NAME}-77", "PatientName": f"Agata_{NAME}", "PatientAdditional": f"born_{NAME}"}
    told |= {"Birthdate": date(1951, 7, 23), "Sex": 0, "Technician": f"{NAME}_jr", "Equipment": "Holter_X"}
    good = write_edf(folder / "holter.edf", started=datetime(2024, 5, 1), **told)
    (folder / "cut.edf").write_bytes(good.read_bytes()[:-100])
    (folder / "damaged.edf").write_bytes(good.read_bytes()[:168] + b"99.99.99" + good.read_bytes()[176:])
    write_csv(folder / "strip.csv", patient=f"Agata {NAME}")
    (folder / "gone.hea").write_text("gone 1 250 100\ngone.dat 16 200 16 0 0 0 0 II\n")
    (folder / "no.hea").write_text(f"# {NAME}\nwhat is this\n")
    report = put_in(stores, ingest_settings, folder, folder / "missing.edf")
    assert (report.added, report.failed) == (2, 5)
    for store, metadata in ((stores.warehouse, t.warehouse), (stores.results, t.results)):
        with store.transaction() as connection:
            for table in metadata.sorted_tables:
                columns = [sa.cast(c, sa.Text) for c in table.c if not isinstance(c.type, sa.LargeBinary)]
                text = str(connection.execute(sa.select(*columns)).all()).lower()
                for secret in (NAME.lower(), "agata", "born", "1951", "23-jul"):
                    assert secret not in text, table.name
    assert rows(stores, "SELECT count(*) FROM dead_letters WHERE detail LIKE '%damaged.edf%startdate%'") == [(1,)]
    assert rows(stores, "SELECT sex, age_band FROM patients ORDER BY 1") == [
        ("female", "65-79"),
        ("unknown", "unknown"),
    ]
    assert rows(stores, "SELECT device FROM recordings WHERE name = 'holter'") == [("Holter X",)]
