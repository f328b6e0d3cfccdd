"""The service and a scorer as processes, clients that ask all the time, and what the processes hold meanwhile."""

import http.client
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import sqlalchemy as sa
from api_world import until

PROJECT = Path(__file__).parents[1]
Asked = tuple[str, str, bytes | None]  # method, path, body


class Platform:
    """`python -m api` and `python -m pipelines.score --watch` on the databases of an environment. A context manager."""

    def __init__(self, env: Mapping[str, str], engine: sa.Engine, api_port: int, scorer_port: int) -> None:
        self.port = api_port
        self._engine = engine
        self._metrics = [f"http://127.0.0.1:{port}/metrics" for port in (api_port, scorer_port)]
        self._env = {**env, "ECG_MONITORING__SCORER_PORT": str(scorer_port)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Platform":
        for name, arguments in (
            ("api", ["api", "--port", str(self.port)]),
            ("scorer", ["pipelines.score", "--watch"]),
        ):
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=PROJECT, env=self._env,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        until(lambda: self.answers("/health/ready"), timeout_s=180)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(timeout=60)

    def answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def clock(self) -> datetime:
        """The service's own, by the header Date of its answers."""
        with urlopen(self._metrics[0].replace("/metrics", "/health/live"), timeout=30) as response:
            return parsedate_to_datetime(response.headers["Date"])

    def metrics(self) -> dict[str, float]:
        """All series of both processes."""
        text = "\n".join(urlopen(url, timeout=30).read().decode() for url in self._metrics)
        return {name: float(value) for name, value in re.findall(r"^(\w.*) (\S+)$", text, re.MULTILINE)}

    def held(self) -> dict[str, float]:
        """Memory, open files and threads of each process, metric series, and connections to the databases."""
        found: dict[str, float] = {}
        for name, process in self._processes.items():
            seen = psutil.Process(process.pid)
            found[f"{name}: memory, MB"] = seen.memory_info().rss / 1e6
            found[f"{name}: open files"] = seen.num_fds()
            found[f"{name}: threads"] = seen.num_threads()
        found["metric series"] = len(self.metrics())
        with self._engine.connect() as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            found["connections"] = connection.execute(sa.text(query)).scalar_one()
        return found


@dataclass
class Load:
    """What clients were answered.

    Attributes:
        answers: (path's first part, status) to how many.
        faults: what should not have been, such as a 503 without Retry-After.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def status(self, status: int) -> int:
        return sum(n for (_, got), n in self.answers.items() if got == status)


def ask_all_the_time(port: int, mix: list[Asked], *, clients: int, seconds: float, pause_s: float = 0.0) -> Load:
    """Has clients ask what is in the mix, each as soon as it was answered and a pause; the refused come again soon."""
    load, lock, stop_at = Load(), threading.Lock(), time.monotonic() + seconds

    def client(number: int) -> None:
        chosen, connection = random.Random(number), http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < stop_at:
            method, path, body = chosen.choice(mix)
            began = time.monotonic()
            try:
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                response = connection.getresponse()
                answer = response.read()
            except OSError as error:
                with lock:
                    load.faults.append(f"{method} {path}: {error!r}")
                connection.close()
                continue
            with lock:
                load.answers[path.split("?")[0].split("/")[1], response.status] += 1
                load.slowest_s = max(load.slowest_s, time.monotonic() - began)
                if response.status in (429, 503) and not int(response.headers.get("Retry-After", 0)):
                    load.faults.append(f"{path}: {response.status} without Retry-After")
                if response.status >= 500 and response.status != 503:
                    load.faults.append(f"{path}: {response.status} {answer[:200]!r}")
            time.sleep(0.1 if response.status == 503 else pause_s)
        connection.close()

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def mix_of(world: Any, model_version: int, window_ids: list[int]) -> list[Asked]:
    """Listings, strips and reviews of beats that were found."""
    found = [f"{model_version}-{window_id}" for window_id in window_ids]
    mix: list[Asked] = [("GET", f"/anomalies/{one}", None) for one in found]
    mix += [("POST", "/reviews", json.dumps({"anomaly_id": one, "verdict": "confirm"}).encode()) for one in found]
    return mix + [("GET", "/anomalies?page_size=50", None), ("GET", "/recordings", None)] * len(found)
