"""What tests share: a clean environment, recordings, real PostgreSQL, and commands as a user runs them."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from configs.settings import Settings, load_settings
from warehouse.store import Stores, open_stores
from warehouse.store.database import DatabaseUrls, resolve_urls

PROJECT = Path(__file__).parents[1]


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
    return sa.make_url(urls.warehouse).set(database="postgres")


@pytest.fixture(scope="session")
def new_databases(postgres: sa.URL) -> Callable[[], DatabaseUrls]:
    """Makes two new, empty databases (without any table) and returns their URLs."""
    numbers = itertools.count()

    def make() -> DatabaseUrls:
        names = [f"test{next(numbers)}_{kind}" for kind in ("warehouse", "results")]
        engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
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
