"""What batches gain: the time of a call by its size, and single windows from many clients at once."""

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from configs.settings import Settings
from pipelines.score import model_source
from pipelines.speed_scoring import scored_windows, spread
from serving.combining import CombiningClient
from serving.connect import open_client
from serving.model_client import FloatArray, ModelClient
from warehouse.store import Stores

SIZES = (1, 8, 32, 128, 512, 1024)
CLIENTS = 32
_CALLS = 20
_CALLS_A_CLIENT = 30


def bench_batching(settings: Settings, demo: Stores, servers: Mapping[str, str]) -> dict[str, Any]:
    """Milliseconds of a call by its windows; and windows a second, and p50, of 32 clients with a window each.

    In this process as it is, then with calls combined (as the API does it); and by each server that is named, with the
    batching parameters it was started with: run it once for each file of parameters to choose between.
    """
    model = demo.results.models(demo.results.release().stable)[0]
    source = model_source(settings, model)
    inputs = scored_windows(demo, model)[0].model_inputs()
    local = open_client(source)
    clients = {"in_process": local, "combined": CombiningClient(local)}
    clients |= {name: open_client(replace(source, server=address)) for name, address in servers.items()}
    figures: dict[str, Any] = {}
    for name, client in clients.items():
        for size in SIZES if name != "combined" else ():
            batch = {key: np.resize(values, (size, *values.shape[1:])) for key, values in inputs.items()}
            figures[f"batching_{name}_{size}_windows_ms"] = spread([1e3 * s for s in _calls(client, batch, _CALLS)])
        one = {key: values[:1] for key, values in inputs.items()}
        seconds, took = _at_once(client, one)
        figures[f"batching_{name}_{CLIENTS}_clients_p50_ms"] = spread([1e3 * float(np.median(took))])
        figures[f"batching_{name}_{CLIENTS}_clients_windows_per_s"] = spread([len(took) / seconds])
    for client in clients.values():
        client.close()
    return figures


def _calls(client: ModelClient, batch: Mapping[str, FloatArray], n: int) -> list[float]:
    """Seconds of each call but the first."""
    took = []
    for _ in range(n + 1):
        started = time.perf_counter()
        client.score(batch)
        took.append(time.perf_counter() - started)
    return took[1:]


def _at_once(client: ModelClient, one: Mapping[str, FloatArray]) -> tuple[float, list[float]]:
    """Seconds in all, and of each call, of `CLIENTS` threads."""
    took: list[float] = []
    threads = [
        threading.Thread(target=lambda: took.extend(_calls(client, one, _CALLS_A_CLIENT))) for _ in range(CLIENTS)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, took
