"""Ingest into real PostgreSQL: what is added, what is left alone, versions, geometries, processes, failures."""

import json
import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from ecg_files import write_csv, write_wfdb
from warehouse_help import NOW, check_whole, content, put_in, rows, sets_of

from configs.contract import FeatureSpec
from configs.errors import ConfigurationError, SourceError
from configs.settings import Settings, load_settings
from warehouse.ingest import IngestReport, ingest
from warehouse.ingest_workers import Job, blocks_in_processes, write
from warehouse.signal.ecg import WindowChunk
from warehouse.signal.prepared import PrepareAll
from warehouse.signal.readers import find_sources, open_source
from warehouse.signal.simulate import simulate_cohort
from warehouse.signal.windows import cut_windows
from warehouse.store import Stores
from warehouse.store.records import Patient

pytestmark = pytest.mark.integration

# --- what is added, and what is left alone ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def six(new_stores: Callable[[], Stores], ingest_settings: Settings, wfdb_folder: Path) -> tuple[Stores, IngestReport]:
    stores = new_stores()
    return stores, put_in(stores, ingest_settings, wfdb_folder)


def test_the_report_counts_what_is_in(six: tuple[Stores, IngestReport], ingest_settings: Settings) -> None:
    stores, report = six
    told = json.loads(json.dumps(report.as_json()))
    sets = sets_of(stores, ingest_settings).values()
    assert told == {
        "recordings": {"added": 6, "unchanged": 0, "failed": 0},
        "windows": sum(s.n_windows for s in sets),
        "unusable_seconds": pytest.approx(sum(s.unusable_s for s in sets), abs=1e-3),
        "failures": [],
    }
    assert [s.recording for s in sets] == [f"sim00{i}" for i in range(6)]
    assert all(150 < s.n_windows < 400 and s.lead_slots == ("MLII", "V1") and s.duration_s == 180 for s in sets)


def test_beats_come_from_the_annotations(six: tuple[Stores, IngestReport], ingest_settings: Settings) -> None:
    stores, _ = six
    cohort = simulate_cohort(6, duration_s=180, sampling_rate_hz=250, seed=11)
    for source in cohort:
        window_set = sets_of(stores, ingest_settings)[source.header.name]
        assert window_set.n_beats == len(source.beats.time_s)
        block = stores.warehouse.read_block(ingest_settings.features, *window_set.id_range(0, window_set.n_beats))
        beat = block.window_id - window_set.id_range(0, 0)[0]
        np.testing.assert_allclose(block.r_peak_s, np.rint(source.beats.time_s * 250)[beat] / 250, atol=1e-9)
        ventricular = source.beats.symbol[beat] == "V"
        assert (block.aami_class[ventricular] == b"V").all()
        assert b"V" not in block.aami_class[~ventricular]


def test_the_same_files_again_add_nothing(
    six: tuple[Stores, IngestReport], ingest_settings: Settings, wfdb_folder: Path
) -> None:
    stores, _ = six
    before = content(stores.warehouse)
    again = put_in(stores, ingest_settings, wfdb_folder, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert (again.added, again.unchanged, again.failed, again.windows, again.unusable_seconds) == (0, 6, 0, 0, 0.0)
    assert content(stores.warehouse) == before
    assert len(before) == 6
    check_whole(stores.warehouse)


def test_a_copy_is_the_same_recording(
    six: tuple[Stores, IngestReport], ingest_settings: Settings, wfdb_folder: Path, tmp_path: Path
) -> None:
    stores, _ = six
    before = content(stores.warehouse)
    copy = shutil.copytree(wfdb_folder, tmp_path / "copied")
    report = put_in(stores, ingest_settings, copy, wfdb_folder / "sim000.hea", copy / "sim000.hea")
    assert (report.added, report.unchanged, report.failed) == (0, 7, 0)
    assert content(stores.warehouse) == before


def test_a_renamed_file_is_the_same_recording(
    new_stores: Callable[[], Stores], ingest_settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    first = write_csv(tmp_path / "first.csv")
    shutil.copy(first, tmp_path / "same call.csv")
    report = put_in(stores, ingest_settings, tmp_path)
    assert (report.added, report.unchanged) == (1, 1)
    first.rename(tmp_path / "renamed.csv")
    assert put_in(stores, ingest_settings, tmp_path / "renamed.csv").unchanged == 1
    assert len(sets_of(stores, ingest_settings)) == 1


def test_a_changed_file_is_a_new_version_and_may_change_back(
    new_stores: Callable[[], Stores], ingest_settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    path = tmp_path / "a.csv"

    def versions(seed: int) -> tuple[int, list[tuple[int, bool]], list[int]]:
        report = put_in(stores, ingest_settings, write_csv(path, seed=seed))
        found = rows(stores, "SELECT version, superseded_by IS NULL FROM recordings ORDER BY version")
        listed = [s.recording_id for s in stores.warehouse.window_sets(ingest_settings.features.digest)]
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
    new_stores: Callable[[], Stores], ingest_settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    source = simulate_cohort(1, duration_s=30, sampling_rate_hz=250, seed=3)[0]
    beats = np.rint(source.beats.time_s * 250).astype(int)
    for symbol in "NV":
        symbols = np.full(len(beats), symbol)
        write_wfdb(tmp_path, "a", source.samples, source.header.leads, beats=beats, symbols=symbols)
        assert put_in(stores, ingest_settings, tmp_path / "a.hea").added == 1
        window_set = sets_of(stores, ingest_settings)["a"]
        block = stores.warehouse.read_block(ingest_settings.features, *window_set.id_range(0, window_set.n_beats))
        assert set(block.aami_class) == {symbol.encode()}


def test_two_geometries_live_side_by_side(
    new_stores: Callable[[], Stores],
    ingest_settings: Settings,
    wfdb_folder: Path,
    tmp_path: Path,
) -> None:
    stores = new_stores()
    record = wfdb_folder / "sim001.hea"
    put_in(stores, ingest_settings, record)
    before = content(stores.warehouse)
    profile = tmp_path / "one-lead.yaml"
    profile.write_text(
        "features:\n  name: one-lead\n  sampling_rate_hz: 125\n  before_ms: 200\n  after_ms: 400\n"
        "  lead_slots: [[V1]]\ningest:\n  workers: 1\npseudonym_key: a key\n"
    )
    other = load_settings(profile, {"data_dir": ingest_settings.data_dir})
    report = put_in(stores, other, record, now=datetime(2027, 5, 1, tzinfo=UTC))
    assert (report.added, report.unchanged) == (1, 0)
    first, second = sets_of(stores, ingest_settings)["sim001"], sets_of(stores, other)["sim001"]
    assert (first.recording_id, first.split) == (second.recording_id, second.split)
    assert second.lead_slots == ("V1",)
    block = stores.warehouse.read_block(other.features, *second.id_range(0, second.n_beats))
    assert block.samples.shape == (second.n_windows, 75, 1)
    assert stores.warehouse.feature_spec(other.features.digest) == other.features
    first_geometry = ingest_settings.features.digest
    assert [row for row in content(stores.warehouse) if row["feature_version"] == first_geometry] == before
    check_whole(stores.warehouse)  # both at the recording's start time, though ingested a year apart
    assert put_in(stores, other, record).unchanged == put_in(stores, ingest_settings, record).unchanged == 1


# --- several processes -----------------------------------------------------------------------------------------------


def test_workers_change_nothing(
    six: tuple[Stores, IngestReport],
    new_stores: Callable[[], Stores],
    ingest_settings: Settings,
    wfdb_folder: Path,
) -> None:
    stores = new_stores()
    overrides = {
        "data_dir": ingest_settings.data_dir,
        "pseudonym_key": "a key",
        "ingest": {"workers": 2, "block_s": 60},
    }
    report = put_in(stores, load_settings(overrides=overrides), wfdb_folder)
    assert report == six[1]
    assert content(stores.warehouse) == content(six[0].warehouse)


def test_blocks_of_one_file_in_processes_change_nothing(wfdb_folder: Path) -> None:
    ((ref,), _) = find_sources([str(wfdb_folder / "sim002.hea")])

    def cut(prepare_all: PrepareAll | None) -> list[WindowChunk]:
        source = open_source(ref)
        return list(cut_windows(source, FeatureSpec(), block_s=30, use_annotations=False, prepare_all=prepare_all))

    here, there = cut(None), cut(blocks_in_processes(ref, 2))
    assert len(here) == len(there) == 6
    for one, other in zip(here, there, strict=True):
        assert (one.unusable, one.rejected) == (other.unusable, other.rejected)
        np.testing.assert_array_equal(one.signal, other.signal)
        for name, values in vars(one.windows).items():
            np.testing.assert_array_equal(values, getattr(other.windows, name))
    # Whoever stops in the middle leaves no process behind.
    chunks = cut_windows(
        open_source(ref), FeatureSpec(), block_s=30, use_annotations=False, prepare_all=blocks_in_processes(ref, 2)
    )
    next(chunks)
    chunks.close()
    assert multiprocessing.active_children() == []


def test_two_ingests_at_once_add_each_recording_once(
    six: tuple[Stores, IngestReport],
    new_stores: Callable[[], Stores],
    ingest_settings: Settings,
    wfdb_folder: Path,
) -> None:
    stores = new_stores()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(put_in, stores, ingest_settings, wfdb_folder) for _ in range(2)]
        reports = [future.result() for future in both]
    assert sum(report.added for report in reports) == 6
    assert sum(report.unchanged for report in reports) == 6
    assert sum(report.windows for report in reports) == six[1].windows
    assert content(stores.warehouse) == content(six[0].warehouse)
    check_whole(stores.warehouse)


def test_a_file_that_changes_meanwhile_is_not_stored_as_what_it_was(
    six: tuple[Stores, IngestReport], ingest_settings: Settings, wfdb_folder: Path
) -> None:
    (ref,), _ = find_sources([str(wfdb_folder / "sim000.hea")])
    header = replace(open_source(ref).header, checksum="what it was when the headers were read")
    patient = Patient(1, "p", "train")
    job = Job(ref, header, patient, ingest_settings.features, ingest_settings.ingest, NOW, disk=None)
    error = write(job, six[0].warehouse)
    assert isinstance(error, SourceError)
    assert "changed while" in error.problem


# --- failures --------------------------------------------------------------------------------------------------------


def test_failures_are_listed_and_the_others_are_in(
    new_stores: Callable[[], Stores], ingest_settings: Settings, wfdb_folder: Path, tmp_path: Path
) -> None:
    stores = new_stores()
    broken = tmp_path / "broken.csv"
    broken.write_text("# sampling_rate_hz: 250\nII_mV\n0.1\nbad\n")
    late = shutil.copytree(wfdb_folder, tmp_path / "late") / "sim002.hea"
    first, *others = late.read_text().splitlines()
    late.write_text("\n".join([first + " 00:00:00 31/12/9999", *others]) + "\n")
    report = put_in(
        stores, ingest_settings, wfdb_folder / "sim000.hea", broken, tmp_path / "nowhere", late, wfdb_folder / "sim001"
    )
    assert (report.added, report.unchanged, report.failed) == (2, 0, 3)
    assert sorted(sets_of(stores, ingest_settings)) == ["sim000", "sim001"]
    for name, text in (("broken.csv", "'bad' is not a number"), ("nowhere", "does not exist"), ("sim002", "calendar")):
        (failure,) = [one for one in report.failures if name in one]
        assert text in failure
        query = f"SELECT count(*) FROM dead_letters WHERE source LIKE '{name}%' AND reason = 'source' AND detail <> ''"
        assert rows(stores, query) == [(1,)]


def test_a_file_name_that_is_no_text_is_no_obstacle(
    new_stores: Callable[[], Stores], ingest_settings: Settings, tmp_path: Path
) -> None:
    stores = new_stores()
    try:
        write_csv(tmp_path / b"ekg\xff.csv".decode(errors="surrogateescape"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / b"bad\xff.csv".decode(errors="surrogateescape")).write_text("no ECG")
    report = put_in(stores, ingest_settings, tmp_path)
    assert (report.added, report.failed) == (1, 1)
    assert list(sets_of(stores, ingest_settings)) == ["ekg?"]
    assert put_in(stores, ingest_settings, tmp_path).unchanged == 1


@pytest.mark.parametrize("shares", [{"train": 0.5, "trian": 0.5}, {"train": 0.0}, {"train": 1.0, "test": -1.0}, {}])
def test_split_shares_that_are_none(
    six: tuple[Stores, IngestReport], ingest_settings: Settings, shares: dict[str, float]
) -> None:
    wrong = ingest_settings.ingest.model_copy(update={"split_shares": shares})
    with pytest.raises(ConfigurationError, match=r"ingest\.split_shares"):
        ingest([], ingest_settings.model_copy(update={"ingest": wrong}), six[0])
