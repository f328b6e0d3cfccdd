"""Both databases on real PostgreSQL: migrations, windows that come back as they went in, damage, and data spans."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from store_world import RR_S, SPEC, START, add_recording, read

from configs.errors import DatabaseUnavailableError, NotFoundError
from warehouse.pseudonyms import KEY_FILE
from warehouse.store import Stores, open_stores
from warehouse.store import tables as t
from warehouse.store.database import DatabaseUrls, migrate
from warehouse.store.records import iter_id_ranges
from warehouse.store.window_block import to_datetime

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stores(new_stores: Callable[[], Stores]) -> Stores:
    return new_stores()


# --- schema ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["warehouse", "results"])
def test_migrations_make_what_the_tables_say(stores: Stores, kind: str) -> None:
    metadata = getattr(t, kind)
    with getattr(stores, kind).transaction() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            # months of windows and signal are made as they are needed
            "include_name": lambda name, what, _: (
                not (what == "table" and name.startswith(("windows_y", "signal_chunks_y")))
            ),
        }
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        # what the comparison above leaves out
        inspector = sa.inspect(connection)
        for expected in metadata.tables.values():
            found = {c["name"] for c in inspector.get_check_constraints(expected.name)}
            assert found == {c.name for c in expected.constraints if isinstance(c, sa.CheckConstraint)}
            assert inspector.get_table_comment(expected.name)["text"] == expected.comment
            primary = inspector.get_pk_constraint(expected.name)["constrained_columns"]
            assert primary == [column.name for column in expected.primary_key.columns]
        partitioned = connection.execute(sa.text("SELECT partrelid::regclass::text FROM pg_partitioned_table"))
        assert sorted(partitioned.scalars()) == (["signal_chunks", "windows"] if kind == "warehouse" else [])


def test_migrating_again_changes_nothing(new_databases: Callable[[], DatabaseUrls], tmp_path: Path) -> None:
    urls = new_databases()
    for name in ("a", "b"):
        with open_stores(urls.warehouse, urls.results, tmp_path) as opened:
            add_recording(opened, name, 3)
            assert len(opened.warehouse.window_sets(SPEC.digest)) == 1 + (name == "b")
            with opened.warehouse.transaction() as connection:
                assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).all() == [("0005",)]
    assert not (tmp_path / "postgres").exists()  # with both URLs given nothing is started


def test_a_schema_of_a_newer_version_is_left_alone(new_databases: Callable[[], DatabaseUrls]) -> None:
    url = new_databases().warehouse
    migrate(url, "warehouse")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnavailableError, match=r"schema is not one of ours .*9999.* newer version"):
        migrate(url, "warehouse")
    engine.dispose()


_FIRST_START = """
import json, sys
from pathlib import Path
from warehouse.pseudonyms import load_key
from warehouse.store import open_stores
with open_stores(None, None, Path(sys.argv[1])) as stores:
    stores.warehouse.check()
    stores.results.check()
    print(json.dumps([load_key(Path(sys.argv[1])).hex(), stores.warehouse.recordings(), stores.results.models()]))
"""


def test_processes_that_start_together_on_nothing_all_work(tmp_path: Path) -> None:
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", _FIRST_START, str(tmp_path / "data")], cwd=PROJECT, text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]  # fmt: skip
    ends = [(*process.communicate(timeout=120), process.returncode) for process in starting]
    assert [(code, err) for _, err, code in ends] == [(0, "")] * 4
    told = [json.loads(out) for out, _, _ in ends]
    assert told == [[told[0][0], [], []]] * 4  # one key for all
    assert len(told[0][0]) == 64
    assert [path.name for path in (tmp_path / "data").glob("*.key*")] == [KEY_FILE]


# --- windows ---------------------------------------------------------------------------------------------------------


def test_windows_come_back_as_they_went_in(stores: Stores) -> None:
    window_set = add_recording(stores, "there and back", 50, rejected=2)
    assert (window_set.n_windows, window_set.n_rejected, window_set.n_beats) == (50, 2, 52)
    assert window_set.windowed_s + window_set.unusable_s == pytest.approx(window_set.duration_s)
    block = read(stores, window_set)
    samples = np.random.default_rng(50).integers(-32768, 32768, (50, SPEC.window_samples, 2)).astype(np.int16)
    np.testing.assert_array_equal(block.samples, samples)
    np.testing.assert_array_equal(block.template, samples[::-1])
    np.testing.assert_array_equal(block.lead_mask, np.arange(50)[:, None] % 3 != np.arange(2))
    np.testing.assert_array_equal(block.rr[0], np.float32(RR_S) + np.arange(5, dtype=np.float32))
    assert to_datetime(int(block.recorded_at_us[49])) == START + timedelta(seconds=1 + 49 * RR_S)  # the next month
    assert stores.warehouse.mean_heart_rate_bpm(window_set) == pytest.approx(80)
    parts = [stores.warehouse.read_block(SPEC, *ids) for ids in iter_id_ranges(window_set, 20)]
    assert [len(part) for part in parts] == [20, 20, 10]
    np.testing.assert_array_equal(np.concatenate([part.samples for part in parts]), samples)
    assert len(stores.warehouse.read_block(SPEC, *window_set.id_range(50, 52))) == 0


def test_a_misshapen_window_is_found_and_can_be_left_out(stores: Stores) -> None:
    window_set = add_recording(stores, "misshapen", 10)
    first, stop = window_set.id_range(0, 10)
    with stores.warehouse.transaction() as connection:
        change = "UPDATE windows SET samples = substring(samples FROM 1 FOR 100) WHERE window_id = :id"
        connection.execute(sa.text(change), {"id": first + 4})
    with pytest.raises(ValueError, match=r"bytes|width|rows"):
        stores.warehouse.read_block(SPEC, first, stop)
    block = stores.warehouse.read_block(SPEC, first, stop, well_formed=True)
    assert (block.window_id - first).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    ((window_id, recorded_at, detail),) = stores.warehouse.misshapen_windows(SPEC, first, stop)
    assert (window_id, recorded_at) == (first + 4, START + timedelta(seconds=1 + 4 * RR_S))
    assert detail.startswith("100 and 640 bytes")


def test_what_does_not_exist_is_said_to_be_missing(stores: Stores) -> None:
    for ask in (
        lambda: stores.warehouse.feature_spec("never"),
        lambda: stores.warehouse.recording(987654),
        lambda: stores.warehouse.data_span(987654),
        lambda: stores.warehouse.lead_slots(987654 << t.BEAT_BITS),
        lambda: stores.results.models(987654),
        lambda: stores.results.anomaly(987654, 1),
    ):
        with pytest.raises(NotFoundError):
            ask()


# --- spans -----------------------------------------------------------------------------------------------------------


def test_a_span_is_the_same_as_long_as_the_data_are(new_stores: Callable[[], Stores]) -> None:
    stores = new_stores()
    warehouse = stores.warehouse
    window_set = add_recording(stores, "a", 20)
    first = warehouse.freeze_span(SPEC.digest)
    assert warehouse.freeze_span(SPEC.digest) == first == warehouse.data_span(first.span)
    assert (first.n_windows, first.content["window_sets"][0]["labels"]) == (20, {"N": 20})
    assert warehouse.freeze_span(SPEC.digest, max_windows=5).digest != first.digest

    def relabel(beat: int, label: str) -> None:
        with warehouse.transaction() as connection:
            change = sa.text("UPDATE windows SET aami_class = :label WHERE window_id = :id")
            connection.execute(change, {"label": label, "id": window_set.id_range(beat, beat)[0]})

    relabel(3, "V")
    labelled = warehouse.freeze_span(SPEC.digest)
    assert labelled.content["window_sets"][0]["labels"] == {"N": 19, "V": 1}
    relabel(3, "N")
    relabel(4, "V")
    moved = warehouse.freeze_span(SPEC.digest)  # as many of each, but another beat
    relabel(4, "N")
    back = warehouse.freeze_span(SPEC.digest)
    add_recording(stores, "b", 5)
    grown = warehouse.freeze_span(SPEC.digest)
    assert back == first
    assert grown.n_windows == 25
    spans = [first, labelled, moved, grown]
    assert len({span.digest for span in spans}) == len({span.span for span in spans}) == 4
