"""Promotion and rollback while the service is asked without a pause: nothing fails, nobody waits."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from release_world import NAME, ReleaseWorld

from pipelines.score import score
from pipelines.speed_releases import Load, switch

pytestmark = pytest.mark.integration
MODEL_SERVER = Path(__file__).parents[1] / "model_server.py"


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

        def release(*arguments):
            assert run_cli("serving.release", *arguments, env=env).code == 0

        with Load(base_url, paths) as load:
            time.sleep(1)
            run = switch(load, world.stores, release, 2, 1)
        assert load.failed == 0
        assert len(load.answers) > 200
        assert run["rollback_effect_s"] < 5, f"the rollback took effect after {run['rollback_effect_s']:.1f} s"
        during, before = load.p99_s([run["switch"]]), load.p99_s([run["steady"]])
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
