"""The model provider: which version is used when, and what is told while there is none."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from api.model_provider import REFRESH, RETRY, Loader, ModelProvider, load_from
from configs.errors import DatabaseUnavailableError, ModelUnavailableError, NotFoundError
from configs.settings import ServingSettings
from monitoring.model_metrics import ModelMetrics
from serving.model_client import Explanation, FloatArray, ModelClient, Scores
from warehouse.store.records import ModelVersion, Release

pytestmark = pytest.mark.unit


@dataclass
class FakeClock:
    now: datetime = datetime(2026, 1, 31, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class FakeModel:
    """A model client that only says which version it is, and whether it is well."""

    model_version: int
    broken: bool = False

    def score(self, inputs: Mapping[str, FloatArray]) -> Scores:
        raise AssertionError("nothing is asked of this model")

    def explain(self, inputs: Mapping[str, FloatArray]) -> Explanation:
        raise AssertionError("nothing is asked of this model")

    def check(self) -> None:
        if self.broken:
            raise ModelUnavailableError("model", "is broken")

    def close(self) -> None: ...


@dataclass
class FakeRegistry:
    """The part of the results database that says which models were pushed; counts what it is asked."""

    versions: list[int] = field(default_factory=list)
    asked: int = 0
    down: bool = False
    canary: int | None = None

    def release(self, release_id: int | None = None) -> Release:
        self.asked += 1
        if self.down:
            raise DatabaseUnavailableError("results", "does not answer")
        if not self.versions:
            raise ModelUnavailableError("model", "no version was pushed yet", "Run `python -m pipelines.train` first.")
        stable = max(self.versions)
        return Release(
            release_id=stable, follows=0, at=datetime(2026, 1, 1, tzinfo=UTC), operator="o", action="promote",
            model_version=stable, reason="", numbers=None, stable=stable, previous=None, canary=self.canary,
            canary_percent=50.0, shadow=None,
        )  # fmt: skip

    def models(self, model_version: int | None = None) -> list[ModelVersion]:
        found = [self._model(v) for v in self.versions if model_version in (None, v)]
        if not found:
            raise NotFoundError(f"model version {model_version}", "does not exist")
        return found

    @staticmethod
    def _model(version: int) -> ModelVersion:
        return ModelVersion(
            model_version=version,
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


@dataclass
class Gate:
    """A loader that waits until it is opened, and counts."""

    open: threading.Event = field(default_factory=threading.Event)
    loaded: list[int] = field(default_factory=list)

    def __call__(self, model: ModelVersion) -> ModelClient:
        assert self.open.wait(10)
        self.loaded.append(model.model_version)
        return FakeModel(model.model_version)


@contextmanager
def provider(
    registry: FakeRegistry, load: Loader, clock: Callable[[], datetime], wait_s: float = 10
) -> Iterator[ModelProvider]:
    models = ModelProvider(registry, load, clock, wait_s=wait_s)
    try:
        yield models
    finally:
        models.close()


def load_at_once(model: ModelVersion) -> ModelClient:
    return FakeModel(model.model_version)


def test_no_model_yet() -> None:
    with provider(FakeRegistry(), load_at_once, FakeClock()) as models:
        models.preload()  # a service may start before anything was trained
        with pytest.raises(ModelUnavailableError, match=r"no version was pushed yet. Run `python -m pipelines.train`"):
            models.stable()
        with pytest.raises(ModelUnavailableError):
            models.check()


def test_unknown_version() -> None:
    with provider(FakeRegistry([1]), load_at_once, FakeClock()) as models, pytest.raises(NotFoundError):
        models.client(2)


def test_the_release_is_read_again_only_after_a_while() -> None:
    registry, clock = FakeRegistry([1]), FakeClock()
    with provider(registry, load_at_once, clock) as models:
        assert [models.stable().model_version for _ in range(5)] == [1] * 5
        assert registry.asked == 1
        registry.versions.append(2)
        assert models.stable().model_version == 1
        models.client(1)
        clock.now += REFRESH
        _until(lambda: models.stable().model_version == 2)
        asked = registry.asked
        assert models.stable().model_version == 2
        assert registry.asked == asked
        assert models.client(2).model_version == 2


def test_loading_does_not_block_but_is_told() -> None:
    gate = Gate()
    with provider(FakeRegistry([1]), gate, FakeClock(), wait_s=0.01) as models:
        models.preload()
        assert models.stable().model_version == 1
        for ask in (models.check, lambda: models.client(1)):
            with pytest.raises(ModelUnavailableError, match="model version 1: is still loading"):
                ask()
        gate.open.set()
        _until(lambda: gate.loaded == [1])
        assert models.client(1).model_version == 1
        assert models.check() == 1
        assert gate.loaded == [1]


def test_old_model_answers_while_the_new_one_loads() -> None:
    registry, clock, gate = FakeRegistry([1]), FakeClock(), Gate()
    gate.open.set()
    with provider(registry, gate, clock) as models:
        models.client(models.stable().model_version)
        gate.open.clear()
        registry.versions.append(2)
        clock.now += REFRESH
        assert models.stable().model_version == 1
        assert models.check() == 1
        gate.open.set()
        assert models.client(2).model_version == 2
        _until(lambda: models.stable().model_version == 2)
        assert models.check() == 2


def test_a_release_whose_model_cannot_be_loaded_does_not_take_effect() -> None:
    registry, clock = FakeRegistry([1]), FakeClock()

    def load(model: ModelVersion) -> ModelClient:
        if model.model_version == 2:
            raise ModelUnavailableError("model version 2", "is not what was pushed")
        return FakeModel(model.model_version)

    with provider(registry, load, clock) as models:
        models.client(models.stable().model_version)
        registry.versions.append(2)
        clock.now += REFRESH
        for _ in range(3):
            assert models.stable().model_version == 1
            assert models.check() == 1


def test_a_canary_is_loaded_before_it_serves() -> None:
    registry, clock, gate = FakeRegistry([1]), FakeClock(), Gate()
    gate.open.set()
    with provider(registry, gate, clock) as models:
        models.client(models.stable().model_version)
        registry.versions, registry.canary = [3, 1], 1
        clock.now += REFRESH
        _until(lambda: models.release().canary == 1)
        assert models.release().version_for("100") in (1, 3)


def test_failed_load_is_told_and_tried_again_later() -> None:
    clock, broken, attempts = FakeClock(), True, []

    def load(model: ModelVersion) -> ModelClient:
        attempts.append(model.model_version)
        if broken:
            raise RuntimeError("secret /path")
        return FakeModel(model.model_version)

    with provider(FakeRegistry([1]), load, clock) as models:
        for _ in range(3):
            with pytest.raises(ModelUnavailableError, match="model version 1: cannot be loaded") as caught:
                models.client(1)
            assert "secret" not in str(caught.value)
        assert attempts == [1]
        broken = False
        clock.now += RETRY
        assert models.client(1).model_version == 1
        assert attempts == [1, 1]


def test_only_few_models_are_kept_and_the_released_always() -> None:
    gate = Gate()
    gate.open.set()
    with provider(FakeRegistry([1, 2, 3, 4, 5]), gate, FakeClock()) as models:
        models.stable()
        for version in (5, 1, 2, 3, 4, 5):
            assert models.client(version).model_version == version
        assert gate.loaded == [5, 1, 2, 3, 4]
        models.client(1)
        assert gate.loaded == [5, 1, 2, 3, 4, 1]


def test_check_asks_the_model_and_the_database() -> None:
    registry, clock = FakeRegistry([1]), FakeClock()
    with provider(registry, lambda model: FakeModel(model.model_version, broken=True), clock) as models:
        models.client(1)
        with pytest.raises(ModelUnavailableError, match="is broken"):
            models.check()
        registry.down = True
        clock.now += timedelta(seconds=5)
        with pytest.raises(DatabaseUnavailableError):
            models.check()


def test_missing_folder_is_told(tmp_path: Path) -> None:
    (model,) = FakeRegistry([3]).models(3)
    with pytest.raises(ModelUnavailableError, match="model version 3"):
        load_from(tmp_path, ServingSettings(), ModelMetrics(CollectorRegistry()))(model)


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("did not happen")
