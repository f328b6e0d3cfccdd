"""The restore drill: a backup taken while others write comes back whole, on another server, and damage is found."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from store_world import add_model, add_recording, read, scored
from warehouse_help import content

from configs.errors import ConfigurationError, ConflictError, SourceError
from configs.settings import Settings, load_settings
from warehouse import backup, restore
from warehouse.erasure import Patient, erase_patient
from warehouse.erasure_log import read_log
from warehouse.store import Stores, open_stores
from warehouse.store.audit_queries import Act
from warehouse.store.database import DatabaseUrls
from warehouse.store.records import Beat, Opinion
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_SCORES = "SELECT md5(string_agg(ROW(s.*)::text, '' ORDER BY model_version, window_id)) FROM scores s"


def settings_of(urls: DatabaseUrls, data_dir: Path, key: str = "the key") -> Settings:
    return load_settings(
        overrides={"warehouse_url": urls.warehouse, "results_url": urls.results, "data_dir": data_dir,
                   "pseudonym_key": key}
    )  # fmt: skip


def checksum(results: Results) -> str:
    with results.transaction() as connection:
        return str(connection.execute(sa.text(_SCORES)).scalar_one())


def test_a_backup_comes_back_as_it_was(
    new_stores: Callable[[], Stores], new_databases: Callable[[], DatabaseUrls], tmp_path: Path
) -> None:
    stores, data_dir = new_stores(), tmp_path / "data"
    for i in range(3):
        window_set = add_recording(stores, f"r{i}", 50, rejected=1)
        run = add_model(stores, i + 1)
        block = read(stores, window_set)
        stores.results.write_scores(run, i + 1, window_set, block, scored(np.linspace(0, 3, len(block))))
    beat = Beat(int(block.window_id[0]), window_set.recording_id, 3.0, True)
    stores.results.add_reviews("main", [beat], Opinion("ana", "reviewer", 1, "confirm", comment="ça alors"))
    for name in ("models/m/1/saved_model.pb", "models/m/1/assets.extra/card.json", "tfx/m/schemas/x/v1/schema.pbtxt",
                 "uploads/ab/a.hea", "tfx/m/runs/cache", "pseudonym.key"):  # fmt: skip
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / name).write_text(name)
    before, scores = content(stores.warehouse), checksum(stores.results)
    stop = threading.Event()

    def write() -> None:  # all the time: what is counted must be what is dumped
        while not stop.is_set():
            stores.results.add_acts([Act("busy", "", "", "read", "/x")])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        urls = DatabaseUrls(stores.warehouse.url, stores.results.url)
        made = backup.back_up(stores, settings_of(urls, data_dir), tmp_path / "backups", now=NOW)
    finally:
        stop.set()
        writer.join()
    assert sorted(path.name for path in made.iterdir()) == [
        "files.tar",
        "manifest.json",
        "results.dump",
        "warehouse.dump",
    ]
    manifest = restore.check(made)
    rows = {kind: found["rows"] for kind, found in manifest["databases"].items()}
    assert (rows["warehouse"]["windows"], rows["results"]["scores"], rows["results"]["reviews"]) == (150, 150, 1)
    assert b"the key" not in b"".join(path.read_bytes() for path in made.iterdir())

    urls = new_databases()
    there = settings_of(urls, tmp_path / "restored")
    done = restore.bring_back(made, manifest, there)
    assert done == {"differences": [], "key_matches": True, "erased_again": 0}
    back = Stores(Warehouse.open(urls.warehouse), Results.open(urls.results))
    assert content(back.warehouse) == before
    assert checksum(back.results) == scores
    assert back.results.acts(limit=1, newest=True)[0]["action"] == "restore"
    add_recording(back, "after", 5)  # sequences, constraints and triggers are there too
    with pytest.raises(sa.exc.DBAPIError, match="never changed"), back.results.transaction() as connection:
        connection.execute(sa.text("DELETE FROM reviews"))
    files = sorted(str(p.relative_to(there.data_dir)) for p in there.data_dir.rglob("*") if p.is_file())
    assert files == [
        "models/m/1/assets.extra/card.json", "models/m/1/saved_model.pb", "tfx/m/schemas/x/v1/schema.pbtxt",
        "uploads/ab/a.hea",
    ]  # fmt: skip
    back.warehouse.close()
    back.results.close()

    with pytest.raises(ConflictError, match="has models already"):
        restore.bring_back(made, manifest, there)
    with pytest.raises(ConflictError, match="is not empty: it has"):
        restore.bring_back(made, manifest, settings_of(urls, tmp_path / "other"))
    with pytest.raises(ConflictError, match="is there already"):
        backup.back_up(stores, settings_of(urls, data_dir), tmp_path / "backups", now=NOW)
    other_key = settings_of(new_databases(), tmp_path / "third", key="another")
    assert restore.bring_back(made, manifest, other_key)["key_matches"] is False

    dump = made / "results.dump"
    dump.write_bytes(dump.read_bytes()[:-1] + b"x")
    with pytest.raises(SourceError, match=r"results\.dump was changed|was changed since"):
        restore.check(made)
    (made / "manifest.json").write_text(json.dumps({"sha256": {"gone": ""}}))
    with pytest.raises(SourceError, match="is no whole backup"):
        restore.check(made)


def test_who_was_erased_since_stays_erased(
    new_stores: Callable[[], Stores], new_databases: Callable[[], DatabaseUrls], tmp_path: Path
) -> None:
    """Erased before the backup and back again; erased after it; and never: only the second goes at the restore."""
    stores, data_dir = new_stores(), tmp_path / "data"
    settings = settings_of(DatabaseUrls(stores.warehouse.url, stores.results.url), data_dir)
    for name in ("came back", "left", "stays"):
        add_recording(stores, name, 10)
    erase_patient(stores, data_dir, b"the key", Patient("main", "of came back"))
    add_recording(stores, "came back", 20)
    made = backup.back_up(stores, settings, tmp_path / "backups", now=NOW)
    erase_patient(stores, data_dir, b"the key", Patient("main", "of left"))

    there = settings_of(new_databases(), tmp_path / "restored")
    log = tmp_path / "backups" / "erasures.jsonl"
    assert len(read_log(log)) == 1, "as it was when the backup was made"
    assert "of left" not in (data_dir / "erasures.jsonl").read_text()
    noted = restore.erased_since(made, there, data_dir / "erasures.jsonl")
    done = restore.bring_back(made, restore.check(made), there, noted)
    assert done == {"differences": [], "key_matches": True, "erased_again": 1}
    assert there.warehouse_url is not None
    back = Warehouse.open(there.warehouse_url)
    assert {row["name"]: row["window_rows"] for row in content(back)} == {"came back": 20, "stays": 10}
    back.close()
    assert set(read_log(there.data_dir / "erasures.jsonl")) >= set(noted), "the next restore knows them too"
    log.unlink()
    with pytest.raises(SourceError, match="nobody can say who was erased since"):
        restore.erased_since(made, settings_of(new_databases(), tmp_path / "other"), None)
    log.write_text('{"subject": "cut of')
    with pytest.raises(SourceError, match="is no log of erasures"):
        restore.erased_since(made, there, None)


def test_a_physical_backup_is_a_server_that_starts(tmp_path: Path) -> None:
    settings = load_settings(overrides={"data_dir": tmp_path / "data", "pseudonym_key": "the key"})
    with open_stores(None, None, settings.data_dir) as stores:
        window_set = add_recording(stores, "r", 50)
        run = add_model(stores, 1)
        block = read(stores, window_set)
        stores.results.write_scores(run, 1, window_set, block, scored(np.linspace(0, 3, len(block))))
        before, scores = content(stores.warehouse), checksum(stores.results)
        made = backup.back_up(stores, settings, tmp_path / "backups", now=NOW, physical=True)
        add_recording(stores, "after", 5)
    assert sorted(path.name for path in made.iterdir()) == ["files.tar", "manifest.json", "server-results"]
    there = load_settings(overrides={"data_dir": tmp_path / "restored", "pseudonym_key": "the key"})
    manifest = restore.check(made)
    assert restore.bring_back(made, manifest, there)["differences"] == []
    with open_stores(None, None, there.data_dir) as back:
        assert content(back.warehouse) == before
        assert checksum(back.results) == scores
        add_recording(back, "after", 5)
    with pytest.raises(ConflictError, match="has a server already"):
        restore.bring_back(made, manifest, there)
    with pytest.raises(ConfigurationError, match="only an embedded server's"):
        restore.bring_back(made, manifest, settings_of(DatabaseUrls("postgresql://x/a", "postgresql://x/b"), tmp_path))
    file = made / "server-results" / "global" / "pg_filenode.map"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(SourceError, match="was changed since the backup"):
        restore.check(made)


def test_the_key_is_kept_apart(tmp_path: Path) -> None:
    with pytest.raises(backup.ConfigurationError, match="is in the backup's folder"):
        backup.main(tmp_path / "b", key_file=tmp_path / "b" / "key")
    backup.write_key(b"\x01" * 32, tmp_path / "safe" / "key")
    assert (tmp_path / "safe" / "key").read_text() == "01" * 32 + "\n"
    assert (tmp_path / "safe" / "key").stat().st_mode & 0o777 == 0o600
