"""Latency of one window through each model client, over the model in the process."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.settings import Settings
from pipelines.score import model_source
from pipelines.speed_scoring import scored_windows, spread
from serving.connect import open_client, parse_server
from serving.model_client import FloatArray, ModelClient
from warehouse.store import Stores

CALLS = 300

#: Where TensorFlow Serving's binary cannot be had: speaks its protocols, makes no promise about speed.
STAND_IN = Path(__file__).parent.parent / "tests" / "model_server.py"


def bench_clients(settings: Settings, demo: Stores, servers: Mapping[str, str]) -> dict[str, Any]:
    """Median latency of one window by gRPC and REST, over that in the process.

    Args:
        servers: addresses by `grpc` and `rest` of TensorFlow Serving with the demo's model; the tests' stand-in,
            started for this, when there are none.
    """
    model = demo.results.models(demo.results.release().stable)[0]
    source = model_source(settings, model)
    one = {name: values[:1] for name, values in scored_windows(demo, model)[0].model_inputs().items()}
    process = None
    if not servers:
        process = subprocess.Popen(
            [sys.executable, str(STAND_IN), str(source.directory.parent)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        servers = json.loads(process.stdout.readline())
    try:
        in_process = _latency_s(open_client(source), one)
        figures: dict[str, Any] = {"client_in_process_ms": spread([in_process * 1000])}
        for name, server in servers.items():
            parse_server(server)
            client = open_client(replace(source, server=server))
            took = _latency_s(client, one)
            client.close()
            figures[f"client_{name}_ms"] = spread([took * 1000])
            figures[f"client_{name}_over_in_process"] = spread([took / in_process])
        return figures
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def _latency_s(client: ModelClient, one: Mapping[str, FloatArray]) -> float:
    took = []
    for _ in range(CALLS):
        started = time.perf_counter()
        client.score(one)
        took.append(time.perf_counter() - started)
    return float(np.median(took))
