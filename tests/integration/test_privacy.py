"""Export, erasure and retention on real PostgreSQL: all of one patient, nothing of another, and a proof."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import wfdb
from store_world import RR_S, SPEC, START, add_recording, read, scored
from warehouse_help import check_whole

from configs.settings import Settings, load_settings
from warehouse import privacy
from warehouse.erasure import erase_patient, erase_until, resolve
from warehouse.patient_export import export_patient
from warehouse.pseudonyms import pseudonym
from warehouse.store import Stores
from warehouse.store import tables as t
from warehouse.store.erasure_queries import Traces, subject_digest
from warehouse.store.records import Beat, Opinion, WindowSet
from warehouse.store.warehouse import Warehouse

pytestmark = pytest.mark.integration

KEY = b"a key"
MODEL = {"model_name": "m", "model_version": 1}


@dataclass
class Hospital:
    """Two patients, "of one" and "of two": recordings, scores, reviews, a trained model, and files."""

    stores: Stores
    data_dir: Path
    sets: dict[str, WindowSet]
    span: int

    def traces(self, name: str) -> Traces:
        return self.stores.warehouse.traces_of("main", f"of {name}")


@pytest.fixture
def hospital(new_stores: Callable[[], Stores], tmp_path: Path) -> Hospital:
    stores = new_stores()
    sets = {name: add_recording(stores, name, 20, rejected=2) for name in ("one", "two")}
    span = stores.warehouse.freeze_span(SPEC.digest)
    card = {
        "data": {"recordings": {"train": ["one"], "test": ["two"]}},
        "slices": {"recording=one": {"roc_auc": 0.9}, "recording=two": {"roc_auc": 0.8}},
        "ec57": {"rows": [{"recording": "one", "tp": 5}, {"recording": "two", "tp": 6}]},
    }
    stores.results.register_model(
        {
            **MODEL, "feature_version": SPEC.digest, "feature_spec": SPEC.model_dump(mode="json"), "threshold": 1.5,
            "digest": "d", "data_span": span.span, "run_key": "r", "card": card,
        }
    )  # fmt: skip
    run = stores.results.start_run(1, 40, 4)
    for window_set in sets.values():
        block = read(stores, window_set)
        scores = scored(np.linspace(0, 3, len(block)))
        stores.results.write_scores(run, 1, window_set, block, scores)
        stores.results.write_scores(run, 1, window_set, block, scores, shadow=True)
        stores.results.summarise(1, window_set, 75.0, gap_beats=1)
        with stores.results.transaction() as connection:
            failure = {"model_version": 1, "window_id": window_set.id_range(20, 20)[0], "reason": "odd"}
            connection.execute(t.score_failures.insert(), {**failure, "recording_id": window_set.recording_id})
        stores.results.plan_work(1, shadow=False, blocks=[(window_set.window_set_id, *window_set.id_range(0, 20))])
        beat = Beat(int(block.window_id[19]), window_set.recording_id, 3.0, True)
        stores.results.add_reviews("main", [beat], Opinion("ana", "reviewer", 1, "confirm", comment="seen before"))
        stores.warehouse.add_labels(
            [{"window_id": int(block.window_id[19]), "revision": 1, "aami_class": "V", "artefact": False}]
        )
        upload = {"upload_id": window_set.recording, "site": "main", "created_by": "x", "idempotency_key": None}
        upload |= {"digest": "d", "files": ["a.hea"], "bytes": 1, "patients": None, "status": "done"}
        stores.warehouse.add_upload(upload)
        became = [{"recording_id": window_set.recording_id, "name": window_set.recording}]
        stores.warehouse.update_upload(window_set.recording, {"recordings": became})
    stores.warehouse.add_failed_source("one.hea", "was damaged")
    extra = tmp_path / "models" / "m" / "1" / "assets.extra"
    extra.mkdir(parents=True)
    (extra / "model_card.json").write_text(json.dumps(card))
    (extra / "tf_serving_warmup_requests").write_bytes(b"windows")
    copy = tmp_path / "tfx" / "m" / "runs" / "PostgresExampleGen" / "examples" / "1"
    copy.mkdir(parents=True)
    (copy / "data.gz").write_bytes(b"windows")
    return Hospital(stores, tmp_path, sets, span.span)


def all_rows(warehouse: Warehouse, table: str) -> int:
    with warehouse.transaction() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_an_erased_patient_is_nowhere_and_the_others_are_whole(hospital: Hospital) -> None:
    stores = hospital.stores
    one, two = hospital.traces("one"), hospital.traces("two")
    before = {**stores.warehouse.count_traces(two), **stores.results.count_traces(two)}
    had = {**stores.warehouse.count_traces(one), **stores.results.count_traces(one)}
    assert {name for name, n in had.items() if n} >= {
        "recordings", "window_sets", "windows", "unusable_spans", "dead_letters", "labels", "scores", "shadow_scores",
        "anomalies", "episodes", "recording_summaries", "score_failures", "reviews", "review_states", "scoring_work",
    }  # fmt: skip
    erased = erase_patient(stores, hospital.data_dir, KEY, resolve(stores, KEY, "main", "of one"))
    assert erased.left == {}
    assert {name: erased.deleted[name] for name in had} == {**had, "dead_letters": had["dead_letters"] + 1}
    assert erased.deleted["patients"] == erased.deleted["uploads"] == 1
    assert erased.models == [1]
    assert {"warehouse: windows", "results: scores", "results: reviews", "warehouse: patients.pseudonym",
            "results: audit_log.detail", "files: copies for training"} <= set(erased.checked)  # fmt: skip
    for database in (stores.warehouse, stores.results):
        assert set(database.count_traces(one).values()) == {0}
    # the other patient has what was there
    assert {**stores.warehouse.count_traces(two), **stores.results.count_traces(two)} == before
    check_whole(stores.warehouse)
    # what was trained on it is marked and no longer names it
    assert list(stores.results.marked_models()) == [1]
    (model,) = stores.results.models()
    assert model.card == {
        "data": {"recordings": {"train": [], "test": ["two"]}, "erased_recordings": 1},
        "slices": {"recording=two": {"roc_auc": 0.8}},
        "ec57": {"rows": [{"recording": "two", "tp": 6}]},
    }
    (card,) = hospital.data_dir.rglob("model_card.json")
    assert json.loads(card.read_text()) == model.card
    entries = stores.warehouse.data_span(hospital.span).content["window_sets"]
    assert [(entry["recording"], entry["n_windows"]) for entry in entries] == [("", 0), ("two", 20)]
    left = sorted(path.name for path in hospital.data_dir.rglob("*") if path.is_file())
    assert left == ["erasures.jsonl", "model_card.json", "model_card.md"]
    # the same data later make another span: what is trained now is not marked
    assert stores.warehouse.freeze_span(SPEC.digest).span != hospital.span
    (act,) = stores.results.acts(equal={"action": "erase"})
    assert act["subject"] == subject_digest("main", "of one")
    assert act["detail"] == "1 recordings, models [1]"


def test_erasing_again_finishes_what_a_crash_left(hospital: Hospital) -> None:
    stores, traces = hospital.stores, hospital.traces("one")
    stores.results.start_erasure(subject_digest("main", "of one"), "erasure", traces)
    stores.warehouse.delete_recordings(traces)  # and then it ended: results are still there, under ids nobody knows
    stores.warehouse.delete_patient("main", "of one")
    assert stores.results.count_traces(traces)["scores"] == 20
    assert len(stores.results.erasures(unfinished=True)) == 1
    patient = resolve(stores, KEY, "main", "of one")
    again = erase_patient(stores, hospital.data_dir, KEY, patient)
    assert (again.left, again.deleted["scores"]) == ({}, 20)
    assert stores.results.erasures(unfinished=True) == []


def test_what_is_left_is_told(hospital: Hospital) -> None:
    stores, traces = hospital.stores, hospital.traces("one")
    with stores.results.transaction() as connection:  # a table nobody thought of
        connection.execute(sa.text("CREATE TABLE notes (window_id bigint, words text)"))
        connection.execute(sa.text("CREATE VIEW kept AS SELECT * FROM notes"))
        connection.execute(sa.text("INSERT INTO notes VALUES (:id, 'of one')"), {"id": traces.window_set_ids[0] << 24})
    assert stores.results.count_traces(traces)["notes"] == 1
    assert stores.results.count_mentions("of one")["notes.words"] == 1
    assert erase_patient(stores, hospital.data_dir, KEY, resolve(stores, KEY, "main", "of one")).deleted["notes"] == 1


@pytest.mark.parametrize(
    "statement", ["DELETE FROM reviews", "SET LOCAL ecg.erasing = 'on'; UPDATE reviews SET score = 0"]
)
def test_reviews_are_deleted_by_erasures_alone_and_changed_by_nothing(hospital: Hospital, statement: str) -> None:
    with hospital.stores.results.transaction() as connection:
        with pytest.raises(sa.exc.DBAPIError, match="never changed or deleted"):
            connection.execute(sa.text(statement))
        connection.rollback()


def test_an_export_has_everything_and_nothing_of_others(hospital: Hospital, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    stores, window_set = hospital.stores, hospital.sets["one"]
    counts = export_patient(stores, resolve(stores, KEY, "main", "of one"), folder)
    traces = hospital.traces("one")
    expected = {f"warehouse.{name}": n for name, n in stores.warehouse.count_traces(traces).items()}
    expected |= {f"results.{name}": n for name, n in stores.results.count_traces(traces).items()}
    assert {name: n for name, n in counts.items() if name != "signal samples"} == expected
    with (folder / "results" / "reviews.csv").open(newline="") as file:
        (review,) = csv.DictReader(file)
    assert (review["comment"], review["recording_id"]) == ("seen before", str(window_set.recording_id))
    with (folder / "warehouse" / "windows.csv").open(newline="") as file:
        assert {int(row["window_id"]) >> 24 for row in csv.DictReader(file)} == {window_set.window_set_id}
    patient = json.loads((folder / "patient.json").read_text())
    assert patient["patient"]["pseudonym"] == "of one"
    assert patient["trained_models"] == [{**MODEL, "data_span": hospital.span}]
    (header,) = (folder / "signal").glob("*.hea")
    record = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    assert (record.fs, record.sig_name) == (SPEC.sampling_rate_hz, ["MLII", "V1"])
    strip = stores.warehouse.strip(window_set, SPEC, 0, window_set.duration_s).samples_mv
    expected_counts = np.where(np.isnan(strip), -32768, np.rint(np.nan_to_num(strip) * 1000))
    np.testing.assert_array_equal(record.d_signal, expected_counts)
    assert counts["signal samples"] == strip.size
    assert [c % 65536 for c in record.calc_checksum()] == [c % 65536 for c in record.checksum]


def test_retention_drops_whole_months_and_deletes_the_rest_by_row(hospital: Hospital) -> None:
    stores = hospital.stores  # both start at the end of January; windows reach into February
    end = START + timedelta(seconds=2 + 22 * RR_S)
    assert erase_until(stores, hospital.data_dir, end - timedelta(seconds=1)).deleted == {
        "dead_letters": 0, "uploads": 0, "patients": 0
    }  # fmt: skip
    traces = stores.warehouse.traces_until(datetime(2026, 2, 15, tzinfo=UTC))
    assert len(traces.recording_ids) == 2
    months = stores.warehouse.droppable_months(traces, datetime(2026, 2, 15, tzinfo=UTC))
    assert months == ["signal_chunks_y2026m01", "windows_y2026m01"]
    assert stores.warehouse.droppable_months(hospital.traces("one"), datetime(2026, 2, 15, tzinfo=UTC)) == []
    erased = erase_until(stores, hospital.data_dir, datetime(2026, 2, 15, tzinfo=UTC))
    assert (erased.recordings, erased.left, erased.deleted["windows"]) == (2, {}, 40)
    assert erased.deleted["patients"] == 2
    assert all_rows(stores.warehouse, "windows") == all_rows(stores.warehouse, "patients") == 0
    with stores.warehouse.transaction() as connection:
        names = connection.execute(sa.text("SELECT relname FROM pg_class WHERE relname ~ '_y2026m'")).scalars().all()
    assert not {name for name in names if name.endswith("m01")}
    assert stores.results.marked_models() == {}  # what is too old to keep was not wrong to learn from
    assert [act["action"] for act in stores.results.acts()] == ["retention"]


def test_the_command(
    hospital: Hospital, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_recording(hospital.stores, "three", 5)
    alias = pseudonym(KEY, "MRN 7")
    with hospital.stores.warehouse.transaction() as connection:
        connection.execute(sa.text(f"UPDATE patients SET pseudonym = '{alias}' WHERE pseudonym = 'of three'"))
    for name, value in {"WAREHOUSE_URL": hospital.stores.warehouse.url, "RESULTS_URL": hospital.stores.results.url,
                        "DATA_DIR": str(hospital.data_dir), "PSEUDONYM_KEY": KEY.decode()}.items():  # fmt: skip
        monkeypatch.setenv(f"ECG_{name}", value)
    privacy.main("export", "MRN 7", to=tmp_path / "to")
    assert json.loads((tmp_path / "to" / "patient.json").read_text())["patient"]["pseudonym"] == alias
    privacy.main("erase", "MRN 7", yes=True, json_file=tmp_path / "erased.json")
    done = json.loads((tmp_path / "erased.json").read_text())
    assert (done["recordings"], done["left"], done["deleted"]["windows"]) == (1, {}, 5)
    assert "0 rows or files are left" in capsys.readouterr().err
    with pytest.raises(privacy.NotFoundError, match=f"patient {pseudonym(KEY, 'nobody')} at main"):
        privacy.main("erase", "nobody", yes=True)
    privacy.main("retain")
    assert "everything is kept" in capsys.readouterr().err
    privacy.main("retain", days=1, dry_run=True, json_file=tmp_path / "dry.json")
    assert len(json.loads((tmp_path / "dry.json").read_text())["recordings"]) == 2
    assert all_rows(hospital.stores.warehouse, "recordings") == 2
    for arguments in (["burn", "x"], ["export"], ["retain", "x"], ["export", "of one"]):
        with pytest.raises(privacy.ConfigurationError):
            privacy.main(*arguments)


def test_posted_files_that_wait_are_erased(hospital: Hospital, wfdb_folder: Path) -> None:
    settings: Settings = load_settings()
    assert settings.privacy.retention_days == 0
    for name in ("sim000", "sim001"):
        folder = hospital.data_dir / "uploads" / name
        folder.mkdir(parents=True)
        for path in wfdb_folder.glob(f"{name}.*"):
            (folder / path.name).write_bytes(path.read_bytes())
        upload = {"upload_id": name, "site": "main", "created_by": "x", "idempotency_key": None, "digest": "d"}
        upload |= {"files": [f"{name}.hea"], "bytes": 1, "patients": None, "status": "waiting"}
        hospital.stores.warehouse.add_upload(upload)
    alias = pseudonym(KEY, "sim000")
    hospital.stores.warehouse.ensure_patients([(alias, "male", "40-64")], {"test": 1.0})
    erased = erase_patient(hospital.stores, hospital.data_dir, KEY, resolve(hospital.stores, KEY, "main", "sim000"))
    assert erased.left == {}
    assert erased.deleted["files: posted, not ingested"] >= 2
    assert [path.name for path in (hospital.data_dir / "uploads").iterdir()] == ["sim001"]
    states = {row["upload_id"]: row["status"] for row in hospital.stores.warehouse.unfinished_uploads()}
    assert states == {"sim001": "waiting"}
