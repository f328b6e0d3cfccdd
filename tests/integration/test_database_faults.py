"""Databases that deadlock, are slow or stand still: what was acknowledged is there, once, and it recovers by itself."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sqlalchemy as sa
from api_world import SPEC as API_SPEC
from api_world import HalvingModel, World, check_problem, score_two_recordings, serving, until
from slow_proxy import slow_proxy
from store_world import add_model, add_recording, read, scored
from warehouse_help import NOW

from configs.errors import DatabaseBusyError, DatabaseUnavailableError
from configs.settings import ApiSettings
from warehouse.store import Stores
from warehouse.store import tables as t
from warehouse.store.database import translate_errors
from warehouse.store.records import Beat, Opinion
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse

pytestmark = pytest.mark.integration

LOCKED = sa.text(
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()"
)


def deadlocks(results: Results) -> int:
    with results.transaction() as connection:
        connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
        query = sa.text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(connection.execute(query).scalar_one())


def count(results: Results, table: sa.Table) -> int:
    with results.transaction() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


# --- deadlock --------------------------------------------------------------------------------------------------------


def test_scorers_of_the_same_block_give_one_score_each(new_stores: Callable[[], Stores]) -> None:
    """Each writes from the first window to the last, so that one of them waits and none has to give way."""
    stores = new_stores()
    window_set, run = add_recording(stores, "r", 3000), add_model(stores, 1)
    block = read(stores, window_set)

    def write(score: float) -> int:
        return stores.results.write_scores(run, 1, window_set, block, scored(np.full(len(block), score)))[0]

    with stores.results.engine.connect() as other, ThreadPoolExecutor(2) as pool:
        middle = {"model_version": 1, "window_id": int(block.window_id[1500]), "recording_id": 1, "recorded_at": NOW,
                  "score": 0, "verdict": False, "lead_slot": 0}  # fmt: skip
        other.execute(sa.insert(t.scores).values(middle))  # keeps the first in the middle of its block
        writing = [pool.submit(write, score) for score in (2.0, 3.0)]
        with stores.results.engine.connect() as asking:
            until(lambda: asking.execute(LOCKED).scalar_one() == 2)
        other.rollback()
        written = [one.result(timeout=20) for one in writing]
    assert sorted(written) == [0, 3000]
    with stores.results.transaction() as connection:
        for table in (t.scores, t.anomalies):
            of_whom = connection.execute(sa.select(table.c.score, sa.func.count()).group_by(table.c.score)).all()
            assert of_whom == [((2.0, 3.0)[written.index(3000)], 3000)]
    assert deadlocks(stores.results) == 0


def test_a_review_that_had_to_give_way_is_kept_once(new_stores: Callable[[], Stores]) -> None:
    stores = new_stores()
    window_set = add_recording(stores, "r", 2)
    first, second = (Beat(one, window_set.recording_id, 3.0, True) for one in window_set.id_range(0, 1))
    assert first.window_id + 1 == second.window_id
    results = stores.results
    results.add_reviews("main", [first, second], Opinion("ana", "reviewer", 1, "confirm"))
    row = "SELECT 1 FROM review_states WHERE window_id = {} FOR UPDATE"
    with results.engine.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute(sa.text("SET deadlock_timeout = '1min'"))  # it is the reviewer who has to give way
        other.execute(sa.text(row.format(second.window_id)))
        waiting = pool.submit(results.add_reviews, "main", [first, second], Opinion("bo", "reviewer", 1, "reject"))
        with results.engine.connect() as asking:
            until(lambda: asking.execute(LOCKED).scalar_one() > 0)
        other.execute(sa.text(row.format(first.window_id)))  # returns when the reviewer was given up
        other.rollback()
        assert len(waiting.result(timeout=20)) == 2
    assert deadlocks(results) == 1
    assert count(results, t.reviews) == 4
    assert results.review_states([first.window_id])[first.window_id].reviewers == ("ana", "bo")


def test_what_gives_way_again_and_again_says_so(new_stores: Callable[[], Stores]) -> None:
    results = new_stores().results
    with pytest.raises(DatabaseBusyError, match=r"had to give way.*Nothing of it was stored; run again"):  # noqa: SIM117
        with results.transaction() as connection:
            connection.execute(sa.text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'deadlock_detected'; END $$"))


# --- slow, and standing still ----------------------------------------------------------------------------------------


@pytest.fixture
def world(new_stores: Callable[[], Stores]) -> World:
    stores = new_stores()
    stores.warehouse.ensure_feature_version(API_SPEC)
    patient = stores.warehouse.ensure_patients([("pseudonym", "male", "65-79")], {"test": 1.0})["pseudonym"]
    return World(stores, patient)


@pytest.mark.alone
def test_a_database_that_is_slow_then_still_then_back(world: World) -> None:
    scored_beats = score_two_recordings(world).expected
    stores, settings = world.stores, ApiSettings(query_timeout_s=1.0)
    with slow_proxy(stores.results.url) as proxy:
        through = Stores(
            Warehouse.open(proxy.url_of(stores.warehouse.url), query_timeout_s=1.0),
            Results.open(proxy.url, query_timeout_s=1.0),
        )
        load = lambda model: HalvingModel(model.model_version)  # noqa: E731
        with serving(through, world.clock, load, settings=settings) as client:
            until(lambda: client.get("/health/ready").status_code == 200)

            def review(number: int) -> int:
                beat = scored_beats[number]["id"]
                body = {"anomaly_id": beat, "verdict": "confirm"}
                answer = client.post("/reviews", json=body)
                if answer.status_code == 503:
                    check_problem(answer, 503, "database-unavailable")
                    assert int(answer.headers["Retry-After"]) > 0
                return answer.status_code

            with ThreadPoolExecutor(6) as pool:
                proxy.delay_s = 0.05  # each way, each part: half a second and more a request
                slow = list(pool.map(review, range(12)))
                assert set(slow) == {201}, "slow is not away"
                proxy.delay_s = 0
                proxy.stand_still()
                began = time.monotonic()
                still = list(pool.map(review, range(12, 18)))
                waited = time.monotonic() - began
                assert set(still) == {503}
                assert waited < 20, "a deadline, not the kernel's hours"
                assert client.get("/health/live").status_code == 200
                began = time.monotonic()
                proxy.flow()
                until(lambda: review(18) == 201, timeout_s=30)
                recovered = time.monotonic() - began
                assert recovered < 20
                proxy.cut()  # in the middle of what comes next, at some point
                cut = list(pool.map(review, range(19, 40)))
                until(lambda: review(40) == 201, timeout_s=30)
        acknowledged = slow.count(201) + 1 + cut.count(201) + 1
        kept = count(stores.results, t.reviews)
        assert acknowledged <= kept <= acknowledged + len(still) + cut.count(503)
        print(f"acknowledged {acknowledged}, found {kept}, 503 after {waited:.1f} s, back in {recovered:.1f} s")


def test_no_connection_left_is_said() -> None:
    with pytest.raises(DatabaseUnavailableError, match="connections are in use"):  # noqa: SIM117
        with translate_errors(sa.make_url("postgresql://here/results")):
            raise sa.exc.TimeoutError("QueuePool limit")
