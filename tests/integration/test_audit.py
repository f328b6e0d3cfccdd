"""The audit log on real PostgreSQL: a chain that many write at once, that nobody can change unseen."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from warehouse.audit import verify
from warehouse.store import Stores
from warehouse.store.audit_queries import Act, ChainHead
from warehouse.store.results import Results

pytestmark = pytest.mark.integration

ACT = Act("ana", "reviewer", "main", "read", "/recordings/1/signal", "start_s=0")


@pytest.fixture(scope="module")
def results(new_stores: Callable[[], Stores]) -> Results:
    return new_stores().results


def execute(results: Results, *statements: str) -> None:
    with results.transaction() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def test_who_write_at_the_same_time_make_one_chain(results: Results) -> None:
    def write(name: str) -> None:
        for _ in range(10):
            results.add_acts(
                [replace(ACT, actor=name), replace(ACT, actor=name, subject="ünïcode \x1b\n", detail="x" * 900)]
            )

    threads = [threading.Thread(target=write, args=(f"writer {i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = list(results.all_acts())
    found = verify(rows)
    assert (found.rows, found.faults) == (120, ())
    assert [row["audit_id"] for row in rows] == list(range(1, 121))
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert {row["actor"] for row in rows} == {f"writer {i}" for i in range(6)}
    assert max(len(row["detail"]) for row in rows) == 500
    assert [row["audit_id"] for row in results.acts(limit=2, newest=True)] == [119, 120]
    assert len(results.acts(equal={"actor": "writer 3", "detail": "start_s=0"})) == 10
    # what was given for the columns that are the database's is not taken
    execute(results, "INSERT INTO audit_log VALUES (7, '2001-01-01', 'eve', '', '', 'read', '', '', '\\x00', '\\x00')")
    assert verify(results.all_acts()).faults == ()
    assert results.acts(limit=1, newest=True)[0]["audit_id"] == 121


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
def test_rows_cannot_be_changed_or_deleted(results: Results, statement: str) -> None:
    results.add_acts([ACT])
    with pytest.raises(sa.exc.DBAPIError, match="only added to, never changed or deleted"):
        execute(results, statement)


@pytest.mark.parametrize(
    ("tampering", "fault"),
    [
        ("UPDATE audit_log SET actor = 'bob' WHERE audit_id = 3", "row 3 was changed"),
        ("UPDATE audit_log SET at = at - interval '1 s' WHERE audit_id = 3", "row 3 was changed"),
        ("DELETE FROM audit_log WHERE audit_id = 3", "rows 3 to 3 are missing"),
        ("UPDATE audit_log SET audit_id = 9 WHERE audit_id = 5", "rows 5 to 8 are missing"),
        (
            "UPDATE audit_log a SET previous = '\\x11', hash = sha256('x') WHERE audit_id = 3",
            "row 3 does not follow the row before it",
        ),
        ("DELETE FROM audit_log WHERE audit_id >= 4", "row 5, whose hash was kept, is missing"),
    ],
)
def test_tampering_by_the_owner_of_the_table_is_found(
    new_stores: Callable[[], Stores], tampering: str, fault: str
) -> None:
    results = new_stores().results
    results.add_acts([ACT] * 5)
    before = verify(results.all_acts())
    assert before.head is not None
    disable, enable = (
        f"ALTER TABLE audit_log {verb} TRIGGER audit_log_is_only_added" for verb in ("DISABLE", "ENABLE")
    )
    execute(results, disable, tampering, enable)
    found = verify(results.all_acts(), [before.head])
    assert fault in found.faults


def test_a_chain_that_was_written_anew_does_not_match_a_hash_that_was_kept() -> None:
    assert verify([], [ChainHead(2, "ab" * 32)]).faults == ("row 2, whose hash was kept, is missing",)
    assert verify([]).head is None
