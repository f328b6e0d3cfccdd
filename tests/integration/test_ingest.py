"""Ingest into real PostgreSQL: what is added, what is left alone, versions, splits, geometries, time and privacy."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyedflib
import pytest
import sqlalchemy as sa

from configs.contract import SPLITS
from configs.errors import ConfigurationError, SourceError
from configs.settings import Settings, load_settings
from warehouse.ingest import IngestReport, ingest, ucr_spec
from warehouse.ingest_workers import Job, write
from warehouse.signal.readers import find_sources, open_source
from warehouse.signal.simulate import simulate_cohort
from warehouse.store import Stores
from warehouse.store import tables as t
from warehouse.store.warehouse import Patient, WindowSet

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Content = Callable[[Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data_dir = tmp_path_factory.mktemp("data")
    return load_settings(overrides={"data_dir": data_dir, "ingest": {"workers": 1}, "pseudonym_key": "a key"})


def put_in(stores: Stores, settings: Settings, *paths: Path, **options: Any) -> IngestReport:
    sources, failures = find_sources([str(path) for path in paths])
    return ingest(sources, settings, stores, failures=failures, **{"now": NOW, **options})


def sets_of(stores: Stores, settings: Settings) -> dict[str, WindowSet]:
    return {s.recording: s for s in stores.warehouse.window_sets(settings.features.digest)}


def rows(stores: Stores, query: str) -> list[Any]:
    with stores.warehouse.transaction() as connection:
        return list(connection.execute(sa.text(query)).all())


def write_csv(path: Path, *, seed: int = 0, seconds: int = 30, patient: str = "") -> Path:
    """One lead at 250 Hz with a beat every 0.8 s: a narrow QRS and a T wave."""
    time_s = np.arange(seconds * 250) / 250
    phase = (time_s - 0.5) % 0.8
    signal = np.exp(-((np.minimum(phase, 0.8 - phase) / 0.012) ** 2)) + 0.2 * np.exp(-(((phase - 0.25) / 0.05) ** 2))
    signal += np.random.default_rng(seed).normal(0, 0.01, len(time_s))
    head = ["# sampling_rate_hz: 250", *([f"# patient: {patient}"] if patient else []), "II_mV"]
    path.write_text("\n".join([*head, *(f"{value:.4f}" for value in signal)]) + "\n")
    return path


def write_edf(path: Path, *, started: datetime, patient: dict[str, Any], seed: int = 0) -> Path:
    source = write_csv(path.with_suffix(".tmp"), seed=seed)
    signal = np.array([float(line) for line in source.read_text().splitlines()[2:]])
    source.unlink()
    with pyedflib.EdfWriter(str(path), 1, file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        limits = {"physical_max": 4.0, "physical_min": -4.0, "digital_max": 32767, "digital_min": -32768}
        header = {"label": "ECG II", "dimension": "mV", "sample_frequency": 250, "prefilter": "", "transducer": ""}
        writer.setSignalHeader(0, header | limits)
        writer.setStartdatetime(started)
        for key, value in patient.items():
            getattr(writer, f"set{key}")(value)
        writer.writeSamples([signal])
    return path


# --- what is added, and what is left alone ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def six(new_stores: Callable[[], Stores], settings: Settings, wfdb_folder: Path) -> tuple[Stores, IngestReport]:
    stores = new_stores()
    return stores, put_in(stores, settings, wfdb_folder)


def test_the_report_counts_what_is_in(six: tuple[Stores, IngestReport], settings: Settings) -> None:
    stores, report = six
    told = json.loads(json.dumps(report.as_json()))
    sets = sets_of(stores, settings).values()
    assert told == {
        "recordings": {"added": 6, "unchanged": 0, "failed": 0},
        "windows": sum(s.n_windows for s in sets),
        "unusable_seconds": pytest.approx(sum(s.unusable_s for s in sets), abs=1e-3),
        "failures": [],
    }
    assert [s.recording for s in sets] == [f"sim00{i}" for i in range(6)]
    assert all(150 < s.n_windows < 400 and s.lead_slots == ("MLII", "V1") and s.duration_s == 180 for s in sets)


def test_beats_come_from_the_annotations(six: tuple[Stores, IngestReport], settings: Settings) -> None:
    stores, _ = six
    cohort = simulate_cohort(6, duration_s=180, sampling_rate_hz=250, seed=11)
    for source in cohort:
        window_set = sets_of(stores, settings)[source.header.name]
        assert window_set.n_beats == len(source.beats.time_s)
        block = stores.warehouse.read_block(settings.features, *window_set.id_range(0, window_set.n_beats))
        beat = block.window_id - window_set.id_range(0, 0)[0]
        np.testing.assert_allclose(block.r_peak_s, np.rint(source.beats.time_s * 250)[beat] / 250, atol=1e-9)
        ventricular = source.beats.symbol[beat] == "V"
        assert (block.aami_class[ventricular] == b"V").all()
        assert b"V" not in block.aami_class[~ventricular]


def test_the_same_files_again_add_nothing(
    six: tuple[Stores, IngestReport], settings: Settings, wfdb_folder: Path, content: Content, check_whole: Any
) -> None:
    stores, _ = six
    before = content(stores.warehouse)
    again = put_in(stores, settings, wfdb_folder, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert (again.added, again.unchanged, again.failed, again.windows, again.unusable_seconds) == (0, 6, 0, 0, 0.0)
    assert content(stores.warehouse) == before
    assert len(before) == 6
    check_whole(stores.warehouse)


def test_a_copy_is_the_same_recording(
    six: tuple[Stores, IngestReport], settings: Settings, wfdb_folder: Path, content: Content, tmp_path: Path
) -> None:
    stores, _ = six
    before = content(stores.warehouse)
    copy = shutil.copytree(wfdb_folder, tmp_path / "copied")
    report = put_in(stores, settings, copy, wfdb_folder / "sim000.hea", copy / "sim000.hea")
    assert (report.added, report.unchanged, report.failed) == (0, 7, 0)
    assert content(stores.warehouse) == before


def test_a_renamed_file_is_the_same_recording(
    new_stores: Callable[[], Stores], settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    first = write_csv(tmp_path / "first.csv")
    shutil.copy(first, tmp_path / "same call.csv")
    report = put_in(stores, settings, tmp_path)
    assert (report.added, report.unchanged) == (1, 1)
    first.rename(tmp_path / "renamed.csv")
    assert put_in(stores, settings, tmp_path / "renamed.csv").unchanged == 1
    assert len(sets_of(stores, settings)) == 1


def test_a_changed_file_is_a_new_version_and_may_change_back(
    new_stores: Callable[[], Stores], settings: Settings, tmp_path: Path, check_whole: Any
) -> None:
    stores = new_stores()
    path = tmp_path / "a.csv"

    def versions(seed: int) -> tuple[int, list[tuple[int, bool]], list[int]]:
        report = put_in(stores, settings, write_csv(path, seed=seed))
        found = rows(stores, "SELECT version, superseded_by IS NULL FROM recordings ORDER BY version")
        listed = [s.recording_id for s in stores.warehouse.window_sets(settings.features.digest)]
        current = [row[0] for row in rows(stores, "SELECT recording_id FROM recordings WHERE superseded_by IS NULL")]
        assert listed == current == [one["recording_id"] for one in stores.warehouse.recordings()]
        check_whole(stores.warehouse)
        return report.added, [tuple(row) for row in found], listed

    added, found, (first,) = versions(seed=1)
    assert (added, found) == (1, [(1, True)])
    added, found, (second,) = versions(seed=2)
    assert (added, found) == (1, [(1, False), (2, True)])
    assert rows(stores, f"SELECT superseded_by FROM recordings WHERE recording_id = {first}") == [(second,)]
    added, found, current = versions(seed=1)
    assert (added, found, current) == (0, [(1, True), (2, False)], [first])
    added, found, _ = versions(seed=3)
    assert (added, found) == (1, [(1, False), (2, False), (3, True)])


def test_changed_labels_are_a_new_version(
    new_stores: Callable[[], Stores], settings: Settings, write_wfdb: Any, tmp_path: Path
) -> None:
    stores = new_stores()
    source = simulate_cohort(1, duration_s=30, sampling_rate_hz=250, seed=3)[0]
    beats = np.rint(source.beats.time_s * 250).astype(int)
    for symbol in "NV":
        symbols = np.full(len(beats), symbol)
        write_wfdb(tmp_path, "a", source.samples, source.header.leads, beats=beats, symbols=symbols)
        assert put_in(stores, settings, tmp_path / "a.hea").added == 1
        window_set = sets_of(stores, settings)["a"]
        block = stores.warehouse.read_block(settings.features, *window_set.id_range(0, window_set.n_beats))
        assert set(block.aami_class) == {symbol.encode()}


def test_two_geometries_live_side_by_side(
    new_stores: Callable[[], Stores],
    settings: Settings,
    wfdb_folder: Path,
    content: Content,
    check_whole: Any,
    tmp_path: Path,
) -> None:
    stores = new_stores()
    record = wfdb_folder / "sim001.hea"
    put_in(stores, settings, record)
    before = content(stores.warehouse)
    profile = tmp_path / "one-lead.yaml"
    profile.write_text(
        "features:\n  name: one-lead\n  sampling_rate_hz: 125\n  before_ms: 200\n  after_ms: 400\n"
        "  lead_slots: [[V1]]\ningest:\n  workers: 1\npseudonym_key: a key\n"
    )
    other = load_settings(profile, {"data_dir": settings.data_dir})
    report = put_in(stores, other, record, now=datetime(2027, 5, 1, tzinfo=UTC))
    assert (report.added, report.unchanged) == (1, 0)
    first, second = sets_of(stores, settings)["sim001"], sets_of(stores, other)["sim001"]
    assert (first.recording_id, first.split) == (second.recording_id, second.split)
    assert second.lead_slots == ("V1",)
    block = stores.warehouse.read_block(other.features, *second.id_range(0, second.n_beats))
    assert block.samples.shape == (second.n_windows, 75, 1)
    assert stores.warehouse.feature_spec(other.features.digest) == other.features
    assert [row for row in content(stores.warehouse) if row["feature_version"] == settings.features.digest] == before
    check_whole(stores.warehouse)  # both at the recording's start time, though ingested a year apart
    assert put_in(stores, other, record).unchanged == put_in(stores, settings, record).unchanged == 1


# --- several processes -----------------------------------------------------------------------------------------------


def test_workers_change_nothing(
    six: tuple[Stores, IngestReport], new_stores: Callable[[], Stores], settings: Settings, wfdb_folder: Path, content: Content
) -> None:
    stores = new_stores()
    overrides = {"data_dir": settings.data_dir, "pseudonym_key": "a key", "ingest": {"workers": 2, "block_s": 60}}
    report = put_in(stores, load_settings(overrides=overrides), wfdb_folder)
    assert report == six[1]
    assert content(stores.warehouse) == content(six[0].warehouse)


def test_two_ingests_at_once_add_each_recording_once(
    six: tuple[Stores, IngestReport],
    new_stores: Callable[[], Stores],
    settings: Settings,
    wfdb_folder: Path,
    content: Content,
    check_whole: Any,
) -> None:
    stores = new_stores()
    with ThreadPoolExecutor(2) as pool:
        reports = [future.result() for future in [pool.submit(put_in, stores, settings, wfdb_folder) for _ in range(2)]]
    assert sum(report.added for report in reports) == 6
    assert sum(report.unchanged for report in reports) == 6
    assert sum(report.windows for report in reports) == six[1].windows
    assert content(stores.warehouse) == content(six[0].warehouse)
    check_whole(stores.warehouse)


def test_a_file_that_changes_meanwhile_is_not_stored_as_what_it_was(
    six: tuple[Stores, IngestReport], settings: Settings, wfdb_folder: Path
) -> None:
    (ref,), _ = find_sources([str(wfdb_folder / "sim000.hea")])
    header = replace(open_source(ref).header, checksum="what it was when the headers were read")
    patient = Patient(1, "p", "train")
    error = write(Job(ref, header, patient, settings.features, settings.ingest, NOW, None), six[0].warehouse)
    assert isinstance(error, SourceError)
    assert "changed while" in error.problem


# --- failures --------------------------------------------------------------------------------------------------------


def test_failures_are_listed_and_the_others_are_in(
    new_stores: Callable[[], Stores], settings: Settings, wfdb_folder: Path, tmp_path: Path
) -> None:
    stores = new_stores()
    broken = tmp_path / "broken.csv"
    broken.write_text("# sampling_rate_hz: 250\nII_mV\n0.1\nbad\n")
    late = shutil.copytree(wfdb_folder, tmp_path / "late") / "sim002.hea"
    first, *others = late.read_text().splitlines()
    late.write_text("\n".join([first + " 00:00:00 31/12/9999", *others]) + "\n")
    report = put_in(stores, settings, wfdb_folder / "sim000.hea", broken, tmp_path / "nowhere", late, wfdb_folder / "sim001")
    assert (report.added, report.unchanged, report.failed) == (2, 0, 3)
    assert sorted(sets_of(stores, settings)) == ["sim000", "sim001"]
    for name, text in (("broken.csv", "'bad' is not a number"), ("nowhere", "does not exist"), ("sim002", "calendar")):
        (failure,) = [one for one in report.failures if name in one]
        assert text in failure
        query = f"SELECT count(*) FROM dead_letters WHERE source LIKE '{name}%' AND reason = 'source' AND detail <> ''"
        assert rows(stores, query) == [(1,)]


def test_a_file_name_that_is_no_text_is_no_obstacle(
    new_stores: Callable[[], Stores], settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    try:
        write_csv(tmp_path / b"ekg\xff.csv".decode(errors="surrogateescape"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / b"bad\xff.csv".decode(errors="surrogateescape")).write_text("no ECG")
    report = put_in(stores, settings, tmp_path)
    assert (report.added, report.failed) == (1, 1)
    assert list(sets_of(stores, settings)) == ["ekg?"]
    assert put_in(stores, settings, tmp_path).unchanged == 1


@pytest.mark.parametrize("shares", [{"train": 0.5, "trian": 0.5}, {"train": 0.0}, {"train": 1.0, "test": -1.0}])
def test_split_shares_that_are_none(new_stores: Any, settings: Settings, shares: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"ingest\.split_shares"):
        ingest([], settings.model_copy(update={"ingest": replace_shares(settings, shares)}), new_stores())


def replace_shares(settings: Settings, shares: dict[str, float]) -> Any:
    return settings.ingest.model_copy(update={"split_shares": shares})


# --- splits ----------------------------------------------------------------------------------------------------------


def test_splits_are_balanced_and_stay_when_data_is_added(
    new_stores: Callable[[], Stores], settings: Settings, wfdb_folder: Path
) -> None:
    stores = new_stores()
    half = [wfdb_folder / f"sim00{i}.hea" for i in range(3)]
    put_in(stores, settings, *half)
    early = {name: s.split for name, s in sets_of(stores, settings).items()}
    assert sorted(early.values()) == ["calibration", "test", "train"]
    put_in(stores, settings, wfdb_folder)
    all_six = {name: s.split for name, s in sets_of(stores, settings).items()}
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
    new_stores: Callable[[], Stores], settings: Settings, wfdb_folder: Path
) -> None:
    stores = new_stores()
    put_in(stores, settings, wfdb_folder / "sim000.hea", split="calibration")
    put_in(stores, settings, *(wfdb_folder / f"sim00{i}.hea" for i in range(3)), split="test")
    put_in(stores, settings, wfdb_folder, splits_by_name={"sim000": "test", "sim004": "test"}, split="train")
    splits = {name: s.split for name, s in sets_of(stores, settings).items()}
    assert splits == {
        "sim000": "calibration", "sim001": "test", "sim002": "test", "sim003": "train", "sim004": "test", "sim005": "train",
    }  # fmt: skip


def test_recordings_of_a_patient_share_the_split(
    new_stores: Callable[[], Stores], settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    for i in range(6):  # two patients in turn
        code = {"PatientCode": f"P{i % 2}", "Birthdate": date(1950, 6, 1), "Sex": i % 2}
        write_edf(tmp_path / f"{i}.edf", started=datetime(2024, 5, 1 + i), patient=code, seed=i)
    put_in(stores, settings, tmp_path)
    found = sets_of(stores, settings)
    assert len(found) == 6
    assert len({found[str(i)].split for i in (0, 2, 4)}) == len({found[str(i)].split for i in (1, 3, 5)}) == 1
    assert {(s.sex, s.age_band) for s in found.values()} == {("female", "65-79"), ("male", "65-79")}
    assert rows(stores, "SELECT count(*), count(DISTINCT split) FROM patients") == [(2, 2)]


# --- time, other sources, privacy ------------------------------------------------------------------------------------


def test_troubled_recordings_are_accounted_for_and_marked_as_simulated(
    new_stores: Callable[[], Stores], settings: Settings, wfdb_folder: Path, check_whole: Any
) -> None:
    stores = new_stores()
    cohort = simulate_cohort(10, duration_s=60, sampling_rate_hz=200, seed=5)
    report = ingest(cohort, settings, stores, now=NOW)
    put_in(stores, settings, wfdb_folder / "sim003.hea")
    assert (report.added, report.failed) == (10, 0)
    check_whole(stores.warehouse)
    assert {row[0] for row in rows(stores, "SELECT DISTINCT reason FROM unusable_spans")} >= {"edge", "lead_off"}
    query = (
        "SELECT r.source_format, r.simulated, label_source::text, count(DISTINCT r.recording_id) FROM recordings r "
        "JOIN window_sets s USING (recording_id) JOIN windows w ON w.window_id >> 24 = s.window_set_id "
        "GROUP BY 1, 2, 3 ORDER BY 1"
    )
    assert [tuple(row) for row in rows(stores, query)] == [("simulated", True, "simulator", 10), ("wfdb", False, "reference", 1)]
    assert ingest(cohort, settings, stores, now=NOW).unchanged == 10


def test_a_night_over_the_end_of_a_month_is_in_two_partitions(
    new_stores: Callable[[], Stores], settings: Settings, write_wfdb: Any, check_whole: Any, tmp_path: Path
) -> None:
    stores = new_stores()
    source = simulate_cohort(1, duration_s=120, sampling_rate_hz=250, seed=9)[0]
    start = datetime(2024, 12, 31, 23, 59)
    options = {"base_date": start.date(), "base_time": start.time()}
    write_wfdb(tmp_path, "night", source.samples, source.header.leads, **options)
    put_in(stores, settings, tmp_path / "night.hea")
    window_set = sets_of(stores, settings)["night"]
    assert window_set.start_time == start.replace(tzinfo=UTC)
    counts = dict(rows(stores, "SELECT tableoid::regclass::text, count(*) FROM windows GROUP BY 1"))
    before = rows(stores, "SELECT count(*) FROM windows WHERE r_peak_s < 60")[0][0]
    assert counts == {"windows_y2024m12": before, "windows_y2025m01": window_set.n_windows - before}
    assert 50 < before < 100
    block = stores.warehouse.read_block(settings.features, *window_set.id_range(0, window_set.n_beats))
    assert len(block) == window_set.n_windows
    assert (np.diff(block.r_peak_s) > 0).all()
    check_whole(stores.warehouse)


def test_ucr_windows_have_a_geometry_of_their_own(
    new_stores: Callable[[], Stores], settings: Settings, wfdb_folder: Path, check_whole: Any, tmp_path: Path
) -> None:
    stores = new_stores()
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1, (20, 140)).round(4)
    samples[5, 70], samples[9, 3] = np.nan, 99.0
    lines = [" ".join([str(1 + i % 5), *map(str, row)]) for i, row in enumerate(samples.tolist())]
    (tmp_path / "ECG5000_TRAIN.txt").write_text("\n".join(lines) + "\n")
    report = put_in(stores, settings, tmp_path / "ECG5000_TRAIN.txt", wfdb_folder / "sim000.hea")
    assert (report.added, report.failed) == (2, 0)
    spec = ucr_spec(140)
    (window_set,) = stores.warehouse.window_sets(spec.digest)
    assert (window_set.n_windows, window_set.n_rejected, window_set.duration_s, window_set.unusable_s) == (18, 2, 20.0, 2.0)
    block = stores.warehouse.read_block(spec, *window_set.id_range(0, 20))
    kept = np.delete(np.arange(20), [5, 9])
    np.testing.assert_array_equal(block.r_peak_s, kept)
    np.testing.assert_array_equal(block.samples[:, :, 0], np.rint(samples[kept] * 1000))
    np.testing.assert_array_equal(block.aami_class, np.where(kept % 5 == 0, b"N", b"Q"))
    found = rows(stores, "SELECT beat_index, symbol, reason FROM dead_letters WHERE symbol IS NOT NULL AND symbol <> 'N' ORDER BY 1")
    assert [tuple(row) for row in found] == [(5, "1", "gap"), (9, "5", "amplitude")]
    assert list(sets_of(stores, settings)) == ["sim000"]
    check_whole(stores.warehouse)


NAME = "Zebrowska"


def test_nothing_that_names_a_patient_is_stored(
    new_stores: Callable[[], Stores], settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    folder = tmp_path / f"{NAME} Agata"
    folder.mkdir()
    told = {"PatientCode": f"{NAME}-77", "PatientName": f"Agata_{NAME}", "PatientAdditional": f"née {NAME}".encode("ascii", "ignore").decode()}
    told |= {"Birthdate": date(1951, 7, 23), "Sex": 0, "Technician": f"{NAME}_jr", "Equipment": "Holter_X"}
    good = write_edf(folder / "holter.edf", started=datetime(2024, 5, 1), patient=told)
    (folder / "cut.edf").write_bytes(good.read_bytes()[:-100])
    (folder / "damaged.edf").write_bytes(b"0       " + good.read_bytes()[8:256].replace(b" ", b"?"))
    write_csv(folder / "strip.csv", patient=f"Agata {NAME}")
    (folder / "gone.hea").write_text("gone 1 250 100\ngone.dat 16 200 16 0 0 0 0 II\n")
    (folder / "no.hea").write_text(f"# {NAME}\nwhat is this\n")
    report = put_in(stores, settings, folder, folder / "missing.edf")
    assert (report.added, report.failed) == (2, 5)
    for store, metadata in ((stores.warehouse, t.warehouse), (stores.results, t.results)):
        with store.transaction() as connection:
            for table in metadata.tables:
                text = " ".join(connection.execute(sa.text(f"SELECT x::text FROM {table} x")).scalars()).lower()
                for secret in (NAME.lower(), "agata", "1951", "23-jul"):
                    assert secret not in text, table
    assert rows(stores, "SELECT sex, age_band FROM patients ORDER BY 1") == [("female", "65-79"), ("unknown", "unknown")]
    assert rows(stores, "SELECT device FROM recordings WHERE name = 'holter'") == [("Holter_X",)]


# --- all of MIT-BIH --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_48(
    mitdb_dir: Path, new_databases: Any, new_stores: Callable[[], Stores], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Stores, Settings, IngestReport, float]:
    if len(list(mitdb_dir.glob("*.hea"))) != 48:
        pytest.skip(f"{mitdb_dir} does not hold the 48 records of MIT-BIH")
    settings = load_settings(overrides={"data_dir": tmp_path_factory.mktemp("mitdb")})
    stores = new_stores()
    began = time.monotonic()
    report = put_in(stores, settings, mitdb_dir)
    return stores, settings, report, time.monotonic() - began


def test_all_of_mitdb_is_in_within_a_minute(all_48: tuple[Stores, Settings, IngestReport, float], check_whole: Any) -> None:
    stores, settings, report, seconds = all_48
    print(f"48 records of MIT-BIH, 24 h of two leads: {seconds:.1f} s, {report.windows} windows")
    assert (report.added, report.unchanged, report.failed) == (48, 0, 0)
    assert seconds < 120  # under 60 on an idle machine with two cores
    sets = stores.warehouse.window_sets(settings.features.digest)
    assert sum(s.n_windows for s in sets) == report.windows
    assert sum(s.n_windows + s.n_rejected for s in sets) == 109_494  # beats of the database
    assert report.windows > 109_300
    assert sum(s.duration_s for s in sets) == pytest.approx(48 * 650_000 / 360)
    check_whole(stores.warehouse)


def test_mitdb_again_adds_nothing(all_48: tuple[Stores, Settings, IngestReport, float], mitdb_dir: Path) -> None:
    stores, settings, *_ = all_48
    again = put_in(stores, settings, mitdb_dir)
    assert (again.added, again.unchanged, again.failed, again.windows) == (0, 48, 0, 0)


def test_mitdb_is_split_by_patient(all_48: tuple[Stores, Settings, IngestReport, float]) -> None:
    stores, settings, *_ = all_48
    found = sets_of(stores, settings)
    assert found["201"].split == found["202"].split  # one patient
    assert rows(stores, "SELECT count(*) FROM patients") == [(47,)]
    counts = dict(rows(stores, "SELECT split, count(*) FROM patients GROUP BY split"))
    assert [counts[split] for split in SPLITS] == [pytest.approx(47 * share, abs=1) for share in (0.5, 0.2, 0.3)]
