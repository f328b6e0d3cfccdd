"""Ten times the load, a long time, a clock that jumps: what was acknowledged is there, and nothing grows.

Short here. `LOAD_SECONDS=300 pytest tests/integration/test_under_load.py` is the five minutes, and `SOAK_SECONDS=480`
the eight minutes of docs/reliability.md.
"""

import glob
import itertools
import os
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from api_world import until
from release_world import ReleaseWorld
from store_world import add_recording
from under_load import Platform, ask_all_the_time, mix_of

from warehouse.store import tables as t

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]

LOAD_S, SOAK_S = float(os.environ.get("LOAD_SECONDS", 5)), float(os.environ.get("SOAK_SECONDS", 12))
AT_ONCE, CLIENTS = 16, 4  # the service's limit, and how many clients it has on a normal day


@pytest.fixture(scope="module")
def world(new_stores, tmp_path_factory):
    made = ReleaseWorld(new_stores(), tmp_path_factory.mktemp("data"))
    made.push(1, scale=0.08)
    made.add("first", 60)
    return made


def started(world, **env):
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    small = {"ECG_API__MAX_REQUESTS_AT_ONCE": str(AT_ONCE), "ECG_API__POOL_SIZE": "4"}
    return Platform({**os.environ, **world.env, **small, **env}, world.stores.results.engine, *ports)


@pytest.fixture(scope="module")
def platform(world):
    with started(world) as made:
        until(lambda: world.count(t.scores, 1) == 60, timeout_s=120)
        yield made


@pytest.fixture(scope="module")
def mix(world, platform):
    query = sa.select(t.anomalies.c.window_id).limit(8)
    with world.stores.results.transaction() as connection:
        return mix_of(world, 1, list(connection.execute(query).scalars()))


def reviews(world):
    with world.stores.results.transaction() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(t.reviews)).scalar_one()


class Arrivals:
    """Recordings that arrive all the time, until the end of the block."""

    def __init__(self, world, name, every_s):
        self._world, self._name, self._every_s = world, name, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._arrive)
        self.n = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _arrive(self):
        while not self._stop.wait(self._every_s):
            self._world.add(f"{self._name} {self.n}", 50)
            self.n += 1


@pytest.mark.alone
def test_ten_times_the_load_is_shed_and_nothing_acknowledged_is_lost(world, platform, mix):
    before, scored = reviews(world), world.count(t.scores, 1)
    normal = ask_all_the_time(platform.port, mix, clients=CLIENTS, seconds=2, pause_s=0.02)
    assert (normal.faults, normal.status(503)) == ([], 0)
    with Arrivals(world, "under load", 0.25) as arrived:
        load = ask_all_the_time(platform.port, mix, clients=10 * CLIENTS, seconds=LOAD_S)
    ended = time.monotonic()
    assert load.faults == []
    assert {status for _, status in load.answers} == {200, 201, 503}
    assert platform.answers("/health/live")
    after = ask_all_the_time(platform.port, mix, clients=CLIENTS, seconds=1, pause_s=0.02)
    assert (after.faults, after.status(503)) == ([], 0), "it recovers by itself"
    acknowledged = normal.status(201) + load.status(201) + after.status(201)
    assert reviews(world) - before == acknowledged
    until(lambda: world.count(t.scores, 1) == scored + 50 * arrived.n, timeout_s=120)
    print(f"\n{LOAD_S:g} s: {sum(load.answers.values())} requests, {load.status(503)} of them 503, slowest "
          f"{load.slowest_s:.1f} s; {acknowledged} reviews acknowledged and found; {50 * arrived.n} windows arrived, "
          f"each scored once, the last {time.monotonic() - ended:.1f} s after the end")  # fmt: skip


def test_what_is_committed_late_is_scored_too(world, platform):
    """Numbers are given before the commit: a recording with an earlier number may come after one with a later."""
    scored, arrive, begun = world.count(t.scores, 1), threading.Event(), threading.Event()

    def wait():
        begun.set()
        assert arrive.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(add_recording, world.stores, "begun first", 40, before_commit=wait)
        assert begun.wait(60)
        later = world.add("begun later", 30)
        until(lambda: world.count(t.scores, 1) == scored + 30, timeout_s=60)
        arrive.set()
        assert first.result().window_set_id < later.window_set_id
    until(lambda: world.count(t.scores, 1) == scored + 70, timeout_s=60)


@pytest.mark.alone
def test_nothing_grows(world, platform, mix):
    """Memory, open files, threads, series and connections are what they were when it had warmed up."""
    held = []
    with Arrivals(world, "soak", 0.5) as arrived:
        end = time.monotonic() + SOAK_S
        for _ in range(2):  # caches fill, threads start, each kind of request has its series
            ask_all_the_time(platform.port, mix, clients=CLIENTS, seconds=SOAK_S / 8)
            platform.held()
        answered = 0
        while time.monotonic() < end:
            load = ask_all_the_time(platform.port, mix, clients=CLIENTS, seconds=SOAK_S / 20)
            assert load.faults == []
            answered += sum(load.answers.values())
            held.append(platform.held())
    third = max(1, len(held) // 3)
    print(f"\n{SOAK_S:g} s, {answered} requests, {50 * arrived.n} windows; first third, last third, most:")
    grown = {}
    for name in held[0]:
        early, late = (statistics.median(one[name] for one in part) for part in (held[:third], held[-third:]))
        print(f"  {name}: {early:.0f}, {late:.0f}, {max(one[name] for one in held):.0f}")
        room = 0.1 * early + 10 if "memory" in name else 15 if "series" in name else 3  # a histogram has 15 series
        if late > early + room:
            grown[name] = (early, late)
    assert grown == {}


@pytest.mark.alone
def test_a_clock_that_jumps_a_day_on_and_a_day_back(world, mix, tmp_path):
    """The processes' wall clock, by libfaketime; the databases' and the monotonic one stay."""
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        pytest.skip("needs libfaketime, Debian's package faketime")
    clock, before, scored = tmp_path / "clock", reviews(world), world.count(t.scores, 1)
    clock.write_text("+0\n")
    env = {"LD_PRELOAD": found[0], "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_CACHE_DURATION": "1",
           "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    acknowledged = 0
    with started(world, **env) as platform:
        for number, days in enumerate((0, 1, -1, 0)):
            clock.write_text(f"{days:+d}d\n")
            until(lambda at=days: abs((platform.clock() - datetime.now(UTC)) / timedelta(days=1) - at) < 0.01, 30)
            world.add(f"clock {number}", 50)
            load = ask_all_the_time(platform.port, mix, clients=2, seconds=1, pause_s=0.02)
            assert (load.faults, load.status(503)) == ([], 0)
            acknowledged += load.status(201)
            until(lambda at=number: world.count(t.scores, 1) == scored + 50 * (at + 1), timeout_s=120)
        durations = {name: value for name, value in platform.metrics().items() if "_seconds_sum" in name}
    assert reviews(world) - before == acknowledged > 0
    assert len(durations) > 5
    assert {name: value for name, value in durations.items() if not 0 <= value < 3600} == {}, "no day in a duration"
    with world.stores.results.transaction() as connection:
        order = connection.execute(sa.select(t.reviews.c.created_at).order_by(t.reviews.c.review_id)).scalars().all()
    # Numbers are given a moment after a transaction's time: clients at once may be some milliseconds out of order.
    back = max(earlier - later for earlier, later in itertools.pairwise(order))
    assert back < timedelta(minutes=1), "the database's clock, and its numbers"
