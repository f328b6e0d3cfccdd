"""Metrics of models, scorers and machines: what is counted, and that series do not grow while models come and go."""

from datetime import UTC, datetime

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from api.model_provider import REFRESH, ModelProvider
from configs import contract
from configs.errors import ModelUnavailableError
from monitoring.machine import MachineCollector
from monitoring.model_metrics import ModelMetrics
from monitoring.scorer_metrics import ScorerMetrics
from serving.model_client import Scores
from serving.observed import ObservedModelClient
from serving.remote import CallPolicy, TransientError, call_with_retries
from warehouse.store.records import ModelVersion, Release

pytestmark = pytest.mark.unit

INPUTS = {contract.SAMPLES: np.zeros((3, 2, 2), np.float32)}


class Model:
    """Flags everything, or is broken."""

    def __init__(self, model_version, *, broken=False):
        self.model_version, self.broken = model_version, broken

    def score(self, inputs):
        if self.broken:
            raise ModelUnavailableError("model", "is gone")
        n = len(inputs[contract.SAMPLES])
        return Scores(np.full(n, 2, np.float32), np.ones(n, bool), np.zeros(n, np.int16))


def series(registry):
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def observed(metrics, version, **more):
    metrics.loaded(version, 0.5)
    return ObservedModelClient(Model(version, **more), metrics)


def test_requests_are_counted_by_version_and_signature():
    registry = CollectorRegistry()
    client = observed(ModelMetrics(registry), 7)
    client.score(INPUTS)
    labels = {"model_version": "7", "signature": "score"}
    assert registry.get_sample_value("ecg_model_request_duration_seconds_count", labels) == 1
    assert registry.get_sample_value("ecg_model_request_windows_sum", labels) == 3
    assert registry.get_sample_value("ecg_model_load_duration_seconds", {"model_version": "7"}) == 0.5
    assert registry.get_sample_value("ecg_model_loads_total", {"outcome": "loaded"}) == 1


def test_failures_and_retries_are_counted():
    registry = CollectorRegistry()
    metrics = ModelMetrics(registry)
    client = observed(metrics, 7, broken=True)
    with pytest.raises(ModelUnavailableError):
        client.score(INPUTS)
    labels = {"model_version": "7", "error": "ModelUnavailableError"}
    assert registry.get_sample_value("ecg_model_errors_total", labels) == 1

    answers = iter([TransientError("busy"), TransientError("busy"), None])

    def call(_):
        if (answer := next(answers)) is not None:
            raise answer

    call_with_retries(call, CallPolicy(), "here", sleep=lambda _: None, on_retry=lambda: metrics.retried(7))
    assert registry.get_sample_value("ecg_model_retries_total", {"model_version": "7"}) == 2


def test_fifty_reloads_leave_as_many_series_as_three():
    """The service's own provider: each promotion loads a version, and the oldest of those kept goes."""
    registry = CollectorRegistry()
    metrics = ModelMetrics(registry)
    releases = Releases()
    clients = {}

    def load(model):
        clients[model.model_version] = observed(metrics, model.model_version)
        return clients[model.model_version]

    clock = Clock()
    provider = ModelProvider(releases, load, clock, forget=metrics.forget)
    sizes = []
    for version in range(1, 54):
        releases.stable = version
        clock.now += REFRESH
        provider.release()
        provider.client(version).score(INPUTS)
        clock.now += REFRESH
        provider.release()  # takes effect once it is loaded
        if version > 3:
            clients[version - 3].score(INPUTS)  # a request that was under way when its version went
        sizes.append(len(series(registry)))
    provider.close()
    assert sizes[2] > sizes[0], "three versions are kept"
    assert set(sizes[3:]) == {sizes[3]}, sizes
    assert not any('model_version="1"' in line for line in series(registry))


def test_fifty_promotions_leave_a_scorers_series_as_they_were():
    registry = CollectorRegistry()
    metrics = ScorerMetrics(registry)
    sizes = []
    for version in range(1, 51):
        metrics.begin(version, shadow=False)
        metrics.stage(version, "read", 0.1, shadow=False)
        metrics.block(version, np.ones(4, np.float32), np.ones(4, bool), 0, shadow=False)
        metrics.committed(version, 4, 0, shadow=False)
        metrics.forget(version - 1)
        sizes.append(len(series(registry)))
    assert len(set(sizes)) == 1, sizes


def test_a_scorer_counts_windows_outcomes_and_scores():
    registry = CollectorRegistry()
    metrics = ScorerMetrics(registry)
    metrics.begin(1, shadow=False)
    labels = {"model_version": "1", "shadow": "false"}
    assert registry.get_sample_value("ecg_scorer_windows_in_total", labels) == 0
    assert registry.get_sample_value("ecg_scorer_score_count", labels) == 0
    score = np.array([0.1, 0.25, 0.26, 1.5, 9.0, np.nan], np.float32)
    metrics.block(1, score, score > 1.4, 2, shadow=False)
    metrics.committed(1, 5, 3, shadow=False)
    assert registry.get_sample_value("ecg_scorer_windows_in_total", labels) == 8
    assert registry.get_sample_value("ecg_scorer_windows_total", labels | {"outcome": "scored"}) == 5
    assert registry.get_sample_value("ecg_scorer_windows_total", labels | {"outcome": "failed"}) == 3
    assert registry.get_sample_value("ecg_scorer_windows_flagged_total", labels) == 2

    def below(edge):
        return registry.get_sample_value("ecg_scorer_score_bucket", labels | {"le": edge})

    assert [below(edge) for edge in ("0.25", "0.5", "1.25", "1.5", "5.0", "+Inf")] == [2, 3, 3, 4, 4, 5]
    assert registry.get_sample_value("ecg_scorer_score_sum", labels) == pytest.approx(11.11)


def test_a_score_histogram_counts_as_the_librarys_does():
    from prometheus_client import Histogram

    from monitoring.scorer_metrics import SCORE_BUCKETS, ScoreHistogram

    score = np.random.default_rng(3).exponential(1.0, 2000).astype(np.float32)
    theirs = CollectorRegistry()
    reference = Histogram("s", "s", buckets=SCORE_BUCKETS, registry=theirs)
    for value in score:
        reference.observe(value)
    ours = ScoreHistogram()
    for part in np.split(score, 10):
        ours.observe(("1", "false"), part)
    (family,) = ours.collect()
    counts = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert counts == {edge: theirs.get_sample_value("s_bucket", {"le": edge}) for edge in counts}
    assert len(counts) == len(SCORE_BUCKETS) + 1


def test_the_machine(tmp_path):
    registry = CollectorRegistry()
    registry.register(MachineCollector(tmp_path / "not" / "made" / "yet"))
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in series(registry)}
    assert 0 < values["ecg_disk_free_bytes"] <= values["ecg_disk_size_bytes"]
    assert 0 < values["ecg_memory_available_bytes"] <= values["ecg_memory_size_bytes"]
    assert values['ecg_load_average{minutes="5"}'] >= 0
    assert values["ecg_cpu_cores"] >= 1


def test_gpus_are_read_where_there_are_some(tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, 25, 1024, 8192'\necho '1, 0, 3, 8192'\n")
    program.chmod(0o755)
    registry = CollectorRegistry()
    registry.register(MachineCollector(tmp_path, nvidia_smi=str(program)))
    assert registry.get_sample_value("ecg_gpu_utilization_ratio", {"gpu": "0"}) == 0.25
    assert registry.get_sample_value("ecg_gpu_memory_used_bytes", {"gpu": "1"}) == 3 * 2**20

    program.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    broken = CollectorRegistry()
    broken.register(MachineCollector(tmp_path, nvidia_smi=str(program)))
    assert broken.get_sample_value("ecg_gpu_utilization_ratio", {"gpu": "0"}) is None
    assert broken.get_sample_value("ecg_cpu_cores") is not None


class Clock:
    def __init__(self):
        self.now = datetime(2026, 1, 31, tzinfo=UTC)

    def __call__(self):
        return self.now


class Releases:
    """The part of the results database that says which version serves."""

    stable = 1

    def release(self, release_id=None):
        return Release(
            release_id=self.stable, follows=0, at=datetime(2026, 1, 1, tzinfo=UTC), operator="o", action="promote",
            model_version=self.stable, reason="", numbers=None, stable=self.stable, previous=None, canary=None,
            canary_percent=None, shadow=None,
        )  # fmt: skip

    def models(self, model_version=None):
        return [
            ModelVersion(
                model_version=model_version,
                model_name="m",
                feature_version="f",
                feature_spec={},
                threshold=1.5,
                digest="d",
                data_span=1,
                run_key="r",
                card={},
                registered_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        ]
