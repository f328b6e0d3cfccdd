"""`python -m pipelines.score --watch`, and several scorers at once: quick, clean at the end, nothing scored twice."""

import os
import signal
import time

import numpy as np
import pytest
import sqlalchemy as sa
from release_world import ReleaseWorld

from serving.releases import Releases
from warehouse.store import tables as t

pytestmark = pytest.mark.integration


@pytest.fixture
def world(new_stores, tmp_path):
    made = ReleaseWorld(new_stores(), tmp_path / "data")
    made.push(1, scale=0.08)
    return made


def until(condition, process=None, timeout_s=90):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)


def finished(world, version=1):
    return world.stores.results.finished_window_sets(version)


def started(start_cli, world):
    """A watching scorer that has its model loaded: it scores the recording that is there."""
    window_set = world.add("first", 30)
    process = start_cli("pipelines.score", "--watch", env=world.env)
    until(lambda: finished(world).get(window_set.window_set_id) == 30, process)
    return process


def stop(process):
    os.kill(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    return stderr


@pytest.mark.alone
def test_what_arrives_has_its_result_within_two_seconds_at_200_windows_a_second(world, start_cli):
    process = started(start_cli, world)
    committed, latency = {}, {}

    def look():
        for set_id in finished(world).keys() & committed.keys() - latency.keys():
            latency[set_id] = time.monotonic() - committed[set_id]

    begin = time.monotonic()
    for i in range(24):  # a strip of 50 beats every quarter of a second, for six seconds
        while time.monotonic() < begin + i / 4:
            look()
            time.sleep(0.01)
        window_set = world.add(f"strip {i}", 50)
        committed[window_set.window_set_id] = time.monotonic()
    until(lambda: look() or len(latency) == 24, process)
    arrived = time.monotonic() - begin
    assert np.percentile(list(latency.values()), 95) < 2.0, sorted(latency.values())[-5:]
    assert arrived < 12, "it keeps up"
    assert world.count(t.scores, 1) == 30 + 24 * 50
    assert "Stopped; 1230 windows were scored" in stop(process)
    with world.stores.results.transaction() as connection:
        runs = connection.execute(sa.select(t.scoring_runs.c.status, t.scoring_runs.c.scored)).all()
    assert {run.status for run in runs} == {"succeeded"}
    assert sum(run.scored for run in runs) == 1230


def test_a_promotion_is_followed_without_a_restart(world, start_cli):
    process = started(start_cli, world)
    world.push(2, scale=0.02)
    operator = Releases(world.settings, world.stores, operator="ana", report=lambda _: None)
    operator.shadow(2, "")
    until(lambda: world.count(t.shadow_scores, 2) == 30, process)
    operator.promote(2, "")
    until(lambda: len(finished(world, 2)) == 1, process)
    window_set = world.add("later", 40)
    until(lambda: finished(world, 2).get(window_set.window_set_id) == 40, process)
    assert window_set.window_set_id not in finished(world, 1)
    started_at = time.monotonic()
    operator.rollback("no")
    after = world.add("after", 10)
    until(lambda: after.window_set_id in finished(world, 1) or after.window_set_id in finished(world, 2), process)
    until(lambda: finished(world, 1).get(window_set.window_set_id) == 40, process)
    assert time.monotonic() - started_at < 5, "a rollback takes effect"
    assert "Scoring with stable 2" in stop(process)


def test_a_killed_watcher_loses_nothing_and_two_scorers_score_nothing_twice(world, start_cli, run_cli):
    sets = [world.add(f"rec {i}", 700) for i in range(6)]
    total = 6 * 700
    first, second = (start_cli("pipelines.score", "--watch", env=world.env) for _ in range(2))
    until(lambda: world.count(t.scores, 1) > 300)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    until(lambda: len(finished(world)) == 6, second)
    stop(second)
    assert world.count(t.scores, 1) == total
    assert finished(world) == {s.window_set_id: 700 for s in sets}
    with world.stores.results.transaction() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(t.scoring_work)).scalar_one() == 0
        counted = connection.execute(sa.select(sa.func.sum(t.scoring_runs.c.scored))).scalar_one()
    assert counted == total, "each window was written by one scorer"


def test_watch_takes_no_filters(run_cli, world):
    ran = run_cli("pipelines.score", "--watch", "--recording", "x", env=world.env)
    assert (ran.code, ran.stderr.count("\n")) == (2, 1)
