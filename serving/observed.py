"""A model client whose loading, answers and failures are counted."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from configs import contract
from configs.errors import EcgError
from monitoring.model_metrics import ModelMetrics
from serving.connect import ModelSource, open_client
from serving.model_client import Explanation, FloatArray, ModelClient, Scores

T = TypeVar("T")


def open_observed(source: ModelSource, metrics: ModelMetrics) -> ModelClient:
    """Opens a client as `serving.connect.open_client` does, and counts what it does; raises as that."""
    started = time.perf_counter()
    try:
        client = open_client(source, on_retry=lambda: metrics.retried(source.model_version))
    except EcgError:
        metrics.load_failed()
        raise
    metrics.loaded(source.model_version, time.perf_counter() - started)
    return ObservedModelClient(client, metrics)


class ObservedModelClient:
    """A `serving.model_client.ModelClient` around another."""

    def __init__(self, client: ModelClient, metrics: ModelMetrics) -> None:
        self._client = client
        self._metrics = metrics

    @property
    def model_version(self) -> int:
        return self._client.model_version

    def score(self, inputs: Mapping[str, FloatArray]) -> Scores:
        return self._observe(contract.SIGNATURE_SCORE, inputs, self._client.score)

    def explain(self, inputs: Mapping[str, FloatArray]) -> Explanation:
        return self._observe(contract.SIGNATURE_DEFAULT, inputs, self._client.explain)

    def check(self) -> None:
        self._client.check()

    def close(self) -> None:
        self._client.close()

    def _observe(
        self, signature: str, inputs: Mapping[str, FloatArray], call: Callable[[Mapping[str, FloatArray]], T]
    ) -> T:
        started = time.perf_counter()
        try:
            answer = call(inputs)
        except Exception as error:
            self._metrics.failed(self.model_version, type(error).__name__)
            raise
        windows = len(inputs[contract.SAMPLES])
        self._metrics.answered(self.model_version, signature, windows, time.perf_counter() - started)
        return answer
