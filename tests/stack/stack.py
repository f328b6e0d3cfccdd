"""The stack of docker-compose.yml under a name, with ports and secrets of its own, as the tests drive it."""

import itertools
import json
import math
import os
import random
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

PROJECT = Path(__file__).parents[2]
REPORT = PROJECT / "build" / "compose-test"
T = TypeVar("T")


class Stack:
    """A stack that `up` brings up and `down` takes down, whatever happened in between.

    Args:
        folder: for its secrets and its .env.
        settings: further lines of its .env.

    Attributes:
        cold_start_s: from `up`, with nothing there but images, to the first results.
    """

    cold_start_s: float

    def __init__(self, folder: Path, **settings: str) -> None:
        self.name = f"ecg-test-{os.getpid()}"
        self._secrets = secrets = folder / "secrets"
        run("configs/new_secrets.sh", str(secrets))
        self.key = (secrets / "admin_key").read_text().strip()
        self.ports = {name: free_port() for name in ("API", *published_beside_the_api())}
        env = {"STACK_SECRETS": str(secrets), "COMPOSE_PROFILES": "cpu", "STACK_VERSION": "test", **settings}
        env |= {f"STACK_{name}_PORT": str(port) for name, port in self.ports.items()}
        self._seeds = itertools.count(1000 * os.getpid())
        self._env_file = folder / "env"
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in env.items()))
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{self.ports['API']}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=30,
        )

    # --- compose -----------------------------------------------------------------------------------------------------

    def compose(self, *arguments: str, redirect: str = "", timeout_s: float = 120) -> str:
        """Runs `docker compose ...`, redirected as a shell would; its standard output."""
        whole = ("docker", "compose", "--project-name", self.name, "--env-file", str(self._env_file), *arguments)
        return run("sh", "-c", f"{shlex.join(whole)} {redirect}", timeout_s=timeout_s)

    def up(self, timeout_s: float, *options: str) -> None:
        """Starts everything; returns when what ends has ended and the rest was started."""
        self.compose("up", "--detach", "--no-build", "--quiet-pull", *options, timeout_s=timeout_s)

    def command(self, *command: str, redirect: str = "") -> str:
        """Runs a command as docs/operations.md does, `docker compose run --rm run ...`; its standard output."""
        return self.compose("run", "--rm", "--no-TTY", "run", *command, redirect=redirect, timeout_s=300)

    def down(self, *, with_data: bool) -> None:
        """Takes everything down; keeps what it logged in build/compose-test."""
        REPORT.mkdir(parents=True, exist_ok=True)
        for service in self.services():
            with (REPORT / f"{service}.log").open("a") as log:  # after what it logged before it was last taken down
                log.write(self.compose("logs", "--no-color", "--no-log-prefix", service))
        # Of a profile that is not named, the volumes stay: those of the backups, which `run` alone has.
        with_all = ["--volumes", "--remove-orphans"] if with_data else []
        self.compose("--profile", "cpu", "--profile", "tools", "down", "--timeout", "20", *with_all, timeout_s=300)

    def secret_files(self, *kinds: str) -> list[Path]:
        return sorted(path for path in self._secrets.iterdir() if path.name.endswith(kinds))

    def services(self) -> list[str]:
        return sorted(self.compose("config", "--services").split())

    def container(self, service: str) -> str:
        (found,) = self.compose("ps", "--all", "--quiet", service).split()
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of a service's container."""
        (found,) = json.loads(run("docker", "inspect", self.container(service)))
        return dict(found)

    def state(self, service: str) -> str:
        """healthy, unhealthy, starting; of containers without a check running, restarting or `ended CODE`."""
        state = self.inspect(service)["State"]
        if state["Status"] == "exited":
            return f"ended {state['ExitCode']}"
        return str(state["Health"]["Status"] if state["Status"] == "running" and "Health" in state else state["Status"])

    def sql(self, database: str, query: str) -> str:
        """What a query gives in one of the two databases, unaligned."""
        psql = ("psql", "--username", "ecg", "--dbname", f"ecg_{database}", "--no-align", "--tuples-only", "--quiet")
        return self.compose("exec", "--no-TTY", database, *psql, "--command", query).strip()

    # --- faults ------------------------------------------------------------------------------------------------------

    def kill_9(self, service: str) -> None:
        """Kills a service's process from outside, as the kernel would; `docker kill` would keep it from restarting."""
        pid = self.inspect(service)["State"]["Pid"]
        image = self.inspect("scorer")["Config"]["Image"]
        kill = ("python", "-c", f"import os; os.kill({pid}, 9)")
        run("docker", "run", "--rm", "--pid", "host", "--user", "0", image, *kill)

    def cut(self, service: str, network: str) -> None:
        run("docker", "network", "disconnect", f"{self.name}_{network}", self.container(service))

    def mend(self, service: str, network: str) -> None:
        run("docker", "network", "connect", "--alias", service, f"{self.name}_{network}", self.container(service))

    # --- work --------------------------------------------------------------------------------------------------------

    def recording(self, beats: int = 60, *, head: str = "") -> tuple[str, bytes]:
        """A new recording of a new patient: a file's name, and what is in it."""
        seed = next(self._seeds)
        return f"strip-{seed}.csv", ecg_csv(seed, beats, head=head or f"# patient: compose-{seed}\n").encode()

    def upload(self, *files: tuple[str, bytes], idempotency_key: str | None = None) -> str:
        """Posts files, a new recording by default; returns the upload's id once the service has acknowledged it."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        parts = [("file", one) for one in files or [self.recording()]]
        response = self.api.post("/recordings", files=parts, headers=headers)
        assert response.status_code == 202, response.text
        return str(response.json()["upload_id"])

    def counts(self) -> dict[str, int]:
        """Windows there are, scores of the released version and how many windows these are of, reviews."""
        version = "(SELECT stable FROM releases ORDER BY release_id DESC LIMIT 1)"
        scored = f"SELECT count(*), count(DISTINCT window_id) FROM scores WHERE model_version = {version}"
        scores, distinct = self.sql("results", scored).split("|")
        return {
            "recordings": int(self.sql("warehouse", "SELECT count(*) FROM recordings")),
            "windows": int(self.sql("warehouse", "SELECT count(*) FROM windows")),
            "scores": int(scores),
            "scored_windows": int(distinct),
            "reviews": int(self.sql("results", "SELECT count(*) FROM reviews")),
        }


def published_beside_the_api() -> list[str]:
    """NAME of each STACK_NAME_PORT that .env.example tells of, but the API's."""
    lines = (PROJECT / ".env.example").read_text().splitlines()
    names = [line.lstrip("#").split("=")[0] for line in lines if "_PORT=" in line]
    return [name.removeprefix("STACK_").removesuffix("_PORT") for name in names if name != "STACK_API_PORT"]


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float, pause_s: float = 1.0) -> T:
    """Looks until there is something, through what fails meanwhile; says after `timeout_s` what it saw last."""
    deadline, seen = time.monotonic() + timeout_s, "nothing"
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
            seen = "not yet"
        except (httpx.HTTPError, subprocess.CalledProcessError, AssertionError, LookupError, ValueError) as error:
            seen = f"{type(error).__name__}: {error}"
        time.sleep(pause_s)
    raise AssertionError(f"{what}: not after {timeout_s:.0f} s; last seen: {seen}")


def run(*command: str, timeout_s: float = 120) -> str:
    """Runs a command in the project's folder; its standard output.

    Raises:
        AssertionError: it fails; with what it printed.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("STACK_", "COMPOSE_", "ECG_"))}
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode:
        raise AssertionError(
            f"{' '.join(command)} ended with {done.returncode}:\n{(done.stderr or done.stdout)[-4000:]}"
        )
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ecg_csv(seed: int, beats: int, rate_hz: int = 250, *, head: str = "") -> str:
    """One lead of made-up ECG as CSV: P, QRS and T waves; every ninth beat early, wide and without a P wave."""
    source = random.Random(seed)
    peaks, time_s = [], 0.5
    for beat in range(beats):
        early = beat % 9 == 8
        time_s += (0.5 if early else 0.85) * source.uniform(0.97, 1.03)
        peaks.append((time_s, early))
    n_samples = int((time_s + 1) * rate_hz)
    samples = [source.gauss(0, 0.01) for _ in range(n_samples)]
    for peak_s, early in peaks:
        waves = (
            ((0, 1.6, 0.045), (0.25, -0.5, 0.06))
            if early
            else ((-0.17, 0.12, 0.02), (0, 1.1, 0.012), (0.25, 0.3, 0.04))
        )
        _add_waves(samples, peak_s, waves, rate_hz)
    return f"# sampling_rate_hz: {rate_hz}\n{head}II_mV\n" + "\n".join(f"{value:.4f}" for value in samples) + "\n"


def _add_waves(samples: list[float], peak_s: float, waves: Sequence[tuple[float, float, float]], rate_hz: int) -> None:
    for offset_s, height_mv, width_s in waves:
        centre = (peak_s + offset_s) * rate_hz
        reach = int(5 * width_s * rate_hz)
        for i in range(max(0, int(centre) - reach), min(len(samples), int(centre) + reach)):
            samples[i] += height_mv * math.exp(-0.5 * ((i - centre) / (width_s * rate_hz)) ** 2)
