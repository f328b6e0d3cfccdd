"""Promotion and rollback while the service is asked without a pause: nothing fails, nobody waits."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from release_world import NAME, ReleaseWorld

from pipelines.score import score

pytestmark = pytest.mark.integration
MODEL_SERVER = Path(__file__).parents[1] / "model_server.py"


class Load:
    """Asks for anomalies and their explanations, one after the other in two threads, and notes when and how long."""

    def __init__(self, base_url, paths):
        self.answers = []  # (when it ended, seconds, status, version that answered)
        self._base_url, self._paths, self._stop = base_url, paths, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(2)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, offset):
        with httpx.Client(base_url=self._base_url, timeout=30) as client:
            number = offset
            while not self._stop.is_set():
                started = time.monotonic()
                listing = number % 4 == 0
                answer = client.get("/anomalies?page_size=5" if listing else self._paths[number % len(self._paths)])
                version = answer.json().get("model_version") if listing and answer.status_code == 200 else None
                self.answers.append((time.monotonic(), time.monotonic() - started, answer.status_code, version))
                number += 1
                time.sleep(0.005)

    def p99(self, start, end):
        return float(np.percentile([seconds for at, seconds, _, _ in self.answers if start <= at < end], 99))

    def first_of(self, version, after):
        return next((at for at, _, _, found in list(self.answers) if found == version and at >= after), None)


def wait_for(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while (found := condition()) is None:
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)
    return found


@pytest.mark.alone
def test_promote_and_rollback_under_load_fail_no_request_and_make_nobody_wait(new_stores, tmp_path, start_cli, run_cli):
    """As deployed: the API asks a model server, an operator promotes from a process of their own."""
    world = ReleaseWorld(new_stores(), tmp_path / "data")
    world.push(1, scale=0.2)
    world.push(2, scale=0.3)
    for i in range(3):
        world.add(f"rec {i}", 60)
    for version in (1, 2):
        score(world.settings, world.stores, model_version=version)
    server = subprocess.Popen(
        [sys.executable, str(MODEL_SERVER), str(world.settings.models_dir / NAME)], stdout=subprocess.PIPE, text=True
    )
    try:
        rest = json.loads(server.stdout.readline())["rest"]
        port = 18600 + np.random.default_rng().integers(0, 1000)
        env = {**world.env, "ECG_SERVING__SERVER": rest, "ECG_API__PORT": str(port)}
        api = start_cli("api", env=env)
        base_url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _ready(base_url, api) or None, 60)
        with httpx.Client(base_url=base_url, timeout=30) as client:
            found = client.get("/anomalies?page_size=20").json()
            assert found["model_version"] == 1
            paths = [f"/anomalies/{item['id']}" for item in found["items"]]
        with Load(base_url, paths) as load:
            time.sleep(1)
            for _ in range(2):  # the same command's process competes for the cores, and nothing changes
                assert run_cli("serving.release", "list", env=env).code == 0
            steady = (load.answers[0][0], time.monotonic())
            assert run_cli("serving.release", "promote", 2, env=env).code == 0
            wait_for(lambda: load.first_of(2, steady[1]))
            before_rollback = time.monotonic()
            assert run_cli("serving.release", "rollback", "--why", "test", env=env).code == 0
            committed = world.stores.results.release().at
            effective = wait_for(lambda: load.first_of(1, before_rollback + 0.5))
            end = time.monotonic()
            time.sleep(0.5)
        assert {status for _, _, status, _ in load.answers} == {200}
        assert len(load.answers) > 200
        seconds_to_effect = time.time() - (time.monotonic() - effective) - committed.timestamp()
        assert seconds_to_effect < 5, f"the rollback took effect after {seconds_to_effect:.1f} s"
        during, before = load.p99(steady[1], end), load.p99(*steady)
        assert during <= max(2 * before, 0.05), f"p99 {during * 1000:.0f} ms during, {before * 1000:.0f} ms before"
    finally:
        server.terminate()
        server.wait()


def _ready(base_url, process):
    assert process.poll() is None, process.communicate()
    try:
        return httpx.get(f"{base_url}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
