"""Promotion and rollback under load: failed requests, waiting, and the seconds until a change has taken effect."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np

from configs.errors import UnavailableError
from configs.settings import Settings
from pipelines.score import score
from pipelines.speed_scoring import copy_recordings, spread
from warehouse.store import Stores, open_stores

_WITHIN_S = 60
_PAUSE_S = 0.005  # between two requests of a thread

Span = tuple[float, float]


class Load:
    """Asks the service for listings and single anomalies without a pause, until it is left; a context manager.

    Args:
        paths: of single anomalies; each fourth request is a listing.

    Attributes:
        answers: of each request when it ended (seconds since 1970), how long it took in seconds, its status, and the
            model version that a listing named.
    """

    def __init__(self, base_url: str, paths: Sequence[str], *, threads: int = 2) -> None:
        self.answers: list[tuple[float, float, int, int | None]] = []
        self._base_url, self._paths, self._stop = base_url, paths, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self._base_url, timeout=30) as client:
            while not self._stop.is_set():
                listing = number % 4 == 0
                started = time.monotonic()
                try:
                    answer = client.get("/anomalies?page_size=5" if listing else self._paths[number % len(self._paths)])
                    status = answer.status_code
                    version = answer.json().get("model_version") if listing and status == 200 else None
                except httpx.TransportError:
                    status, version = 0, None
                self.answers.append((time.time(), time.monotonic() - started, status, version))
                number += 1
                time.sleep(_PAUSE_S)

    @property
    def failed(self) -> int:
        """Requests that were not answered, or not with 200."""
        return sum(status != 200 for _, _, status, _ in self.answers)

    def p99_s(self, spans: Sequence[Span]) -> float:
        """p99 in seconds of the requests that ended in one of the spans of time."""
        took = [seconds for at, seconds, *_ in self.answers if any(start <= at < end for start, end in spans)]
        return float(np.percentile(took, 99))

    def wait_for(self, version: int, after: float) -> float:
        """When the first listing that a version made was answered, after a time.

        Raises:
            UnavailableError: none was, within a minute.
        """
        until = time.monotonic() + _WITHIN_S
        while time.monotonic() < until:
            for at, _, _, found in list(self.answers):
                if found == version and at >= after:
                    return at
            time.sleep(0.02)
        raise UnavailableError(f"version {version}", f"did not serve within {_WITHIN_S} s", "See the service's log.")


def switch(load: Load, stores: Stores, release: Callable[..., None], new: int, old: int) -> dict[str, Any]:
    """Promotes a version and takes it back, with the service under load.

    Args:
        release: runs `serving.release` with these arguments, in a process of its own.

    Returns:
        "steady" and "switch", the spans of time before and during it, and "rollback_s" and "rollback_effect_s", seconds
        from the command, and from its commit, until the version before was seen to serve.
    """
    began = time.time()
    for _ in range(2):  # the same command's process competes for the cores, and nothing changes
        release("list")
    promoted = time.time()
    release("promote", new)
    load.wait_for(new, stores.results.release().at.timestamp())
    taken_back = time.time()
    release("rollback", "--why", "bench")
    committed = stores.results.release().at.timestamp()
    effective = load.wait_for(old, committed)
    time.sleep(0.5)
    return {
        "steady": (began, promoted),
        "switch": (promoted, time.time()),
        "rollback_s": effective - taken_back,
        "rollback_effect_s": effective - committed,
    }


def bench_releases(settings: Settings, demo: Stores, data_dir: Path, repeats: int) -> dict[str, Any]:
    """The demo's model as two versions, promoted and taken back under load: p99 during it over p99 before it.

    Args:
        data_dir: new; takes databases, both versions and a copy of the recordings.
    """
    model = demo.results.models(demo.results.release().stable)[0]
    local = settings.model_copy(update={"data_dir": data_dir})
    data_dir.mkdir(mode=0o755)
    old, new = model.model_version, model.model_version + 1
    with open_stores(None, None, data_dir) as stores:
        for version in (old, new):
            pushed = settings.models_dir / model.model_name / str(old)
            shutil.copytree(pushed, local.models_dir / model.model_name / str(version))
            row = {key: value for key, value in vars(model).items() if key != "registered_at"}
            stores.results.register_model(row | {"model_version": version, "run_key": f"bench {version}"})
        copy_recordings(demo, stores, model, times=1)
        for version in (old, new):
            score(local, stores, model_version=version)
        environment = {**os.environ, "ECG_DATA_DIR": str(data_dir), "ECG_LOG_LEVEL": "ERROR"}

        def release(*arguments: object) -> None:
            command = [sys.executable, "-m", "serving.release", *map(str, arguments)]
            subprocess.run(command, env=environment, check=True, capture_output=True)

        with _service(environment) as base_url:
            found = httpx.get(f"{base_url}/anomalies?page_size=20", timeout=30).json()["items"]
            with Load(base_url, [f"/anomalies/{item['id']}" for item in found]) as load:
                time.sleep(2)
                runs = [switch(load, stores, release, new, old) for _ in range(repeats)]
    steady, during = (load.p99_s([run[name] for run in runs]) for name in ("steady", "switch"))
    return {
        "release_requests": len(load.answers),
        "release_failed_requests": load.failed,
        "steady_p99_ms": steady * 1000,
        "switch_p99_ms": during * 1000,
        "switch_p99_over_steady": during / steady,
        "rollback_seconds": spread([run["rollback_s"] for run in runs]),
        "rollback_effect_seconds": spread([run["rollback_effect_s"] for run in runs]),
    }


@contextlib.contextmanager
def _service(environment: dict[str, str]) -> Iterator[str]:
    """`python -m api` on a free port, once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    base_url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "api", "--port", str(port)], env=environment)
    try:
        until = time.monotonic() + 2 * _WITHIN_S
        while not _ready(base_url):
            if process.poll() is not None or time.monotonic() > until:
                raise UnavailableError("python -m api", "did not start", "See its error above.")
            time.sleep(0.2)
        yield base_url
    finally:
        process.terminate()
        process.wait(timeout=60)


def _ready(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/health/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False
