"""Scoring by a model server and by several processes, and what happens when a server goes away meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from release_world import NAME, ReleaseWorld
from saved_models import SPEC

from serving.in_process import InProcessModelClient
from warehouse.store import tables as t

pytestmark = pytest.mark.integration

SERVER = Path(__file__).parents[1] / "model_server.py"


@pytest.fixture
def world(new_stores, tmp_path):
    made = ReleaseWorld(new_stores(), tmp_path / "data")
    made.push(1, scale=0.08)
    return made


class Server:
    """tests/model_server.py as a process, which can be killed and started again at the same addresses."""

    def __init__(self, world):
        self._command = [sys.executable, str(SERVER), str(world.settings.models_dir / NAME)]
        self._addresses = []
        self.start()

    def start(self):
        ports = [address.rpartition(":")[2] for address in self._addresses]
        self._process = subprocess.Popen([*self._command, *ports], stdout=subprocess.PIPE, text=True)
        told = json.loads(self._process.stdout.readline())
        self._addresses = [told["grpc"], told["rest"]]
        self.grpc = told["grpc"]

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def server(world):
    made = Server(world)
    yield made
    made.kill()


def until(condition, process, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.05)


def check_scores(world, window_sets):
    """Every window has one score, the one that the model in this process gives it alone."""
    model = InProcessModelClient(world.settings.models_dir / NAME / "1")
    for window_set in window_sets:
        block = world.stores.warehouse.read_block(SPEC, *window_set.id_range(0, window_set.n_beats))
        window_ids, scores = world.stores.results.scores_of(1, window_set)
        np.testing.assert_array_equal(window_ids, block.window_id)
        np.testing.assert_allclose(scores, model.score(block.model_inputs()).score, atol=1e-5, rtol=0)
    assert world.count(t.scores, 1) == sum(s.n_windows for s in window_sets)


def test_beam_scores_by_a_model_server_as_in_process(world, server, run_cli):
    window_sets = [world.add(f"rec {i}", 150) for i in range(3)]
    ran = run_cli("pipelines.score", "--server", server.grpc, env=world.env)
    assert ran.code == 0, ran.stderr
    check_scores(world, window_sets)


def test_beam_scores_in_several_processes(world, run_cli):
    window_sets = [world.add(f"rec {i}", 150) for i in range(3)]
    beam = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    ran = run_cli("pipelines.score", env={**world.env, "ECG_SCORING__BEAM_ARGS": json.dumps(beam)})
    assert ran.code == 0, ran.stderr
    check_scores(world, window_sets)


def test_beam_scores_through_the_job_api_of_flink_and_spark(world, run_cli):
    """As jobs reach Flink and Spark: a pipeline in Beam's portable form, submitted to a job service.

    The service is Beam's own, which runs the job in this process: no engine is needed to see that it is accepted.
    """
    window_sets = [world.add(f"rec {i}", 150) for i in range(2)]
    beam = ["--runner=FlinkRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK", "--parallelism=2"]
    ran = run_cli("pipelines.score", *(f"--beam-arg={option}" for option in beam), env=world.env)
    assert ran.code == 0, ran.stderr
    check_scores(world, window_sets)


def test_watch_waits_for_a_model_server_and_a_database_that_go_away(world, server, start_cli):
    first = world.add("first", 30)
    env = {**world.env, "ECG_SERVING__SERVER": server.grpc, "ECG_SERVING__DEADLINE_S": "2"}
    process = start_cli("pipelines.score", "--watch", env=env)

    def scored(window_set):
        return world.stores.results.finished_window_sets(1).get(window_set.window_set_id) == window_set.n_windows

    until(lambda: scored(first), process)
    server.kill()
    second = world.add("second", 40)
    time.sleep(3)  # longer than a request may take: it has been told that the server is gone
    assert not scored(second)
    server.start()
    until(lambda: scored(second), process)

    url = sa.make_url(world.stores.results.url)
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false'))
        gone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(sa.text(gone), {"name": url.database})
        third = world.add("third", 50)
        time.sleep(3)
        assert process.poll() is None
        connection.execute(sa.text(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true'))
    engine.dispose()
    until(lambda: scored(third), process)
    os.kill(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert "Trying again in" in stderr
    check_scores(world, [first, second, third])
