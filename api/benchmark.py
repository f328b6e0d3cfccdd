"""`python -m api.benchmark`: how fast the service answers, each figure beside a peer or a limit of the same run."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sqlalchemy as sa
import typer
from rich.table import Table

from api.answers import score_to_int
from api.load_generator import Answered, Asked
from api.paging import PageTokens
from configs import cli
from configs.contract import MV_PER_COUNT, RR_COLUMNS, FeatureSpec
from configs.errors import ModelUnavailableError, UnavailableError
from configs.settings import load_settings
from serving.combining import CombiningClient
from serving.in_process import InProcessModelClient
from serving.model_client import ModelClient
from serving.model_files import verified_dir
from warehouse.store import Stores, open_stores
from warehouse.store.binary_copy import to_microseconds
from warehouse.store.records import AnomalyFilter
from warehouse.store.window_block import WindowBlock

DEMO = Path("build/demo/data")
OUTPUT = Path("build/bench-api.json")
CLIENTS = (1, 32)
LOAD_CLIENTS = 64
FLAGGED_EVERY = 20  # one score in twenty is an anomaly
LARGE, SMALL = 10_000_000, 10_000
_TURNS = 10
#: The mean beside the percentiles: of more threads than cores, those that run at all calculate call after call.
_MEASURES: dict[str, Callable[[Any], Any]] = {
    "p50": lambda seconds: np.percentile(seconds, 50),
    "p99": lambda seconds: np.percentile(seconds, 99),
    "mean": np.mean,
}
_START_WITHIN_S = 120


def main(
    data_dir: Annotated[Path, typer.Option(help="Data with a model and windows, as `make demo` leaves it.")] = DEMO,
    calls: Annotated[int, typer.Option(min=50, help="Requests a figure.")] = 600,
    load_s: Annotated[float, typer.Option(min=1, help="Seconds of load from 64 clients.")] = 60.0,
    rows: Annotated[int, typer.Option(min=100_000, help="Scores in the large database.")] = LARGE,
    json_file: Annotated[Path, typer.Option("--json", help="Write the figures here.")] = OUTPUT,
) -> None:
    """Measure the REST service: scoring over the bare model, pages of a large database, errors under load.

    Needs the model and windows that `make demo` left in build/demo, and 3 GB of disk for a while.
    """
    if not (data_dir / "postgres").is_dir():
        raise ModelUnavailableError(str(data_dir), "holds no model", "Run `make demo ARGS=--no-serve` first.")
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    figures |= bench_score_and_load(data_dir, calls, load_s)
    scratch = Path(tempfile.mkdtemp(prefix="bench-api-"))
    scratch.chmod(0o755)  # the embedded server runs as another user when this is root
    try:
        figures |= bench_pages(scratch, rows, calls)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    figures["load_after"] = os.getloadavg()[0]
    cli.write_json(json_file, figures)
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}" if isinstance(value, float) else str(value))
    cli.show(table)
    cli.note(f"Figures: {json_file}. Other work on this machine makes them worse.")


def bench_score_and_load(data_dir: Path, calls: int, load_s: float) -> dict[str, Any]:
    """POST /score of one window over the same call of the bare client, and a mix of requests under load.

    The bare client is the model in this process, called by as many threads as the service has connections; beside it,
    the same with calls combined as the service combines them.
    """
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # as in the service
    settings = load_settings(overrides={"data_dir": data_dir})
    with open_stores(None, None, data_dir) as stores:
        model = stores.results.models(stores.results.release().stable)[0]
        # As the service opens it, without what the service puts around it.
        bare = InProcessModelClient(verified_dir(settings.models_dir, model), batch_size=256)
        combined = CombiningClient(bare)
        spec = FeatureSpec.model_validate(model.feature_spec)
        window_set = stores.warehouse.window_sets(model.feature_version)[0]
        block = stores.warehouse.read_block(spec, *window_set.id_range(10, 11))
        body = json.dumps({"windows": [_window(block)]}).encode()
        listed = [row["window_id"] for row in stores.results.anomalies(AnomalyFilter(model.model_version), limit=50)]
        figures: dict[str, Any] = {}
        with _service(data_dir) as port:
            for n in CLIENTS:
                times: dict[str, list[float]] = {"model_client": [], "combined_client": [], "post_score": []}
                for _ in range(_TURNS):  # in turns: what else the machine does falls on all of them
                    times["model_client"] += _calls(bare, block, n, calls // _TURNS)
                    times["combined_client"] += _calls(combined, block, n, calls // _TURNS)
                    times["post_score"] += _requests(port, n, calls // _TURNS, [("POST", "/score", body)])
                for name, of in _MEASURES.items():
                    found = {who: float(of(np.array(seconds))) for who, seconds in times.items()}
                    figures |= {f"{who}_{n}_clients_{name}_ms": value * 1e3 for who, value in found.items()}
                    for who in ("client", "combined_client"):
                        peer = found["model_client" if who == "client" else who]
                        figures[f"post_score_over_{who}_{name}_{n}_clients"] = found["post_score"] / peer
            figures["post_score_over_client_p50"] = figures["post_score_over_client_p50_1_clients"]
            mix: list[Asked] = [
                ("POST", "/score", body),
                ("GET", "/anomalies?page_size=50", None),
                ("GET", "/recordings", None),
            ]
            mix += [("GET", f"/anomalies/{model.model_version}-{window_id}", None) for window_id in listed]
            figures |= _load(port, mix, load_s)
    return figures


def bench_pages(scratch: Path, rows: int, calls: int) -> dict[str, Any]:
    """p99 of first and deep pages of /anomalies over `rows` scores, and over 10 thousand.

    Two services, asked in turns, so that whatever else the machine does falls on both.
    """
    times: dict[int, list[float]] = {SMALL: [], rows: []}
    with contextlib.ExitStack() as opened:
        asked: dict[int, tuple[int, list[Asked]]] = {}
        for n in times:
            data_dir = scratch / str(n)
            data_dir.mkdir(mode=0o755)
            paths = _fill(opened.enter_context(open_stores(None, None, data_dir)), n)
            asked[n] = opened.enter_context(_service(data_dir)), paths
        for _ in range(_TURNS):
            for n, (port, paths) in asked.items():
                times[n] += _requests(port, 1, calls // _TURNS, paths)
    p99 = {n: float(np.percentile(found, 99)) for n, found in times.items()}
    return {
        "anomalies_page_p50_ms": statistics.median(times[rows]) * 1e3,
        "anomalies_page_p99_ms": p99[rows] * 1e3,
        "anomalies_page_p99_ms_10k": p99[SMALL] * 1e3,
        "anomalies_10m_over_10k_p99": p99[rows] / p99[SMALL],
        "anomalies_scores": rows,
    }


def _fill(stores: Stores, n: int) -> list[Asked]:
    """Puts n scores and their anomalies in; returns pages to ask for, first and deep ones, by time and by score."""
    version, spec = 1, FeatureSpec()
    stores.results.register_model(
        {
            "model_version": version,
            "model_name": "bench",
            "feature_version": spec.digest,
            "feature_spec": spec.model_dump(mode="json"),
            "threshold": 1.5,
            "digest": "bench",
            "data_span": 1,
            "run_key": "bench",
            "card": {},
        }
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    per_recording = 100_000
    scores = sa.text(
        "INSERT INTO scores (model_version, window_id, recording_id, recorded_at, score, verdict, lead_slot) "
        "SELECT :v, ((i / :per + 1) << 24) + i % :per, i / :per + 1, :start + i * interval '0.8 s', "
        "CASE WHEN i % :every = 0 THEN 1.5 + (i * 7919 % 1000) / 500.0 ELSE (i * 7919 % 1000) / 1000.0 END, "
        "i % :every = 0, i % 2 FROM generate_series(0, CAST(:n AS bigint) - 1) AS i"
    )
    anomalies = sa.text(
        "INSERT INTO anomalies (model_version, window_id, recording_id, recording, recorded_at, r_peak_s, score, lead, "
        "label, quality, familiarity) SELECT model_version, window_id, recording_id, 'r' || recording_id, recorded_at, "
        "(window_id & 16777215) * 0.8, score, 'MLII', 'U', 0.9, 0.9 FROM scores WHERE verdict"
    )
    given = {"v": version, "per": per_recording, "start": start, "every": FLAGGED_EVERY, "n": n}
    with stores.results.transaction() as connection:
        connection.execute(scores, given)
        connection.execute(anomalies)
    engine = sa.create_engine(stores.results.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:  # what autovacuum would do beside the measurement
        connection.execute(sa.text("VACUUM ANALYZE scores, anomalies, review_states"))
    engine.dispose()
    # Deep in either order, and far enough from the end that every page is full, also of the small database.
    rank = "SELECT recorded_at, score, window_id FROM anomalies ORDER BY {} OFFSET :o LIMIT 20"
    given = {"o": int(n / FLAGGED_EVERY * 0.6)}
    with stores.results.transaction() as connection:
        by_time = connection.execute(sa.text(rank.format("recorded_at, window_id")), given).all()
        by_score = connection.execute(sa.text(rank.format("score DESC, window_id DESC")), given).all()
    tokens = PageTokens(lambda: datetime.now(UTC))
    release = stores.results.release().release_id
    paths = ["/anomalies?page_size=100", "/anomalies?page_size=100&sort=-score", "/anomalies?page_size=100&min_score=2"]
    for row in by_time:
        token = tokens.issue("anomalies", {}, (release, to_microseconds(row.recorded_at), row.window_id))
        paths.append(f"/anomalies?page_size=100&page_token={token}")
    for row in by_score:
        token = tokens.issue("anomalies", {"sort": "-score"}, (release, score_to_int(row.score), row.window_id))
        paths.append(f"/anomalies?page_size=100&sort=-score&page_token={token}")
    return [("GET", path, None) for path in paths]


def _window(block: WindowBlock) -> dict[str, Any]:
    """The only window of a block, as a caller sends it."""
    rr = {name: float(value) for name, value in zip(RR_COLUMNS, block.rr[0], strict=True)}
    window: dict[str, Any] = {
        "samples_mv": np.round(block.samples[0].T * MV_PER_COUNT, 3).tolist(),
        "lead_usable": block.lead_mask[0].tolist(),
        "rr": rr,
    }
    if block.template_beats[0]:
        window["template_mv"] = np.round(block.template[0].T * MV_PER_COUNT, 3).tolist()
        window["template_beats"] = int(block.template_beats[0])
    return window


def _calls(client: ModelClient, block: WindowBlock, n_clients: int, calls: int) -> list[float]:
    """Seconds of each call of a model client with one window, from threads of this process."""
    inputs = block.model_inputs()
    return _in_threads(n_clients, calls, lambda: lambda i: client.explain(inputs))


def _requests(port: int, n_clients: int, calls: int, mix: Sequence[Asked]) -> list[float]:
    """Seconds of each request of a mix, from so many connections.

    Raises:
        UnavailableError: one was not answered 200.
    """
    answered = _generate(port, n_clients, mix, calls=max(calls, n_clients * 20))
    if answered.failed:
        raise UnavailableError(f"{mix[0][0]} {mix[0][1]}", "was not answered 200", "See the service's log.")
    return answered.seconds


def _load(port: int, mix: Sequence[Asked], seconds: float) -> dict[str, Any]:
    """Requests of a mix from 64 clients at once: how many, and how many failed."""
    answered = _generate(port, LOAD_CLIENTS, mix, for_s=seconds)
    return {"load_requests_per_s": len(answered.seconds) / seconds, "load_errors": answered.failed}


def _generate(port: int, clients: int, mix: Sequence[Asked], **until: float) -> Answered:
    """`api.load_generator` in a process of its own: this one's threads would wait for each other."""
    given = {
        "port": port,
        "clients": clients,
        "mix": [(method, path, None if body is None else body.decode()) for method, path, body in mix],
        **until,
    }
    command = [sys.executable, "-m", "api.load_generator"]
    done = subprocess.run(command, input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError("python -m api.load_generator", "ended with an error", "See it above.")
    return Answered(**json.loads(done.stdout))


def _in_threads(n: int, calls: int, connect: Callable[[], Callable[[int], object]]) -> list[float]:
    """Seconds of each call; the first ones of each thread, while it warms, are left out."""
    seconds: list[float] = []
    errors: list[Exception] = []
    ready = threading.Barrier(n)

    def work(first: int) -> None:
        try:
            call = connect()
            for i in range(5):
                call(i)
            ready.wait()
            for i in range(first, max(calls, n * 20), n):
                started = time.perf_counter()
                call(i)
                seconds.append(time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return seconds


@contextlib.contextmanager
def _service(data_dir: Path) -> Iterator[int]:
    """`python -m api` on a free port, once it is ready, or at least answers where it has no model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {**os.environ, "ECG_DATA_DIR": str(data_dir), "ECG_LOG_LEVEL": "ERROR"}
    process = subprocess.Popen([sys.executable, "-m", "api", "--port", str(port)], env=environment)
    try:
        deadline = time.monotonic() + _START_WITHIN_S
        while not _serves(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError("python -m api", "did not start", "See its error above.")
            time.sleep(0.2)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _serves(port: int) -> bool:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        line.request("GET", "/health/ready")
        answer = line.getresponse()
        text = answer.read().decode()
        return answer.status == 200 or "cannot be loaded" in text
    except OSError:
        return False
    finally:
        line.close()


if __name__ == "__main__":
    cli.run(main)
