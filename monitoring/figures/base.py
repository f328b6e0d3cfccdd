"""What figures are made of: a group is a function from a `FigureContext` to Prometheus metrics."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from configs.errors import ModelUnavailableError
from configs.settings import Settings
from warehouse.store import Stores
from warehouse.store.records import ModelVersion, Release


@dataclass(frozen=True)
class FigureContext:
    """What a group of figures may read.

    Attributes:
        release: which versions serve; None before the first was pushed.
        models: the release's versions, by number: the only ones that label figures, so that series stay few.
    """

    stores: Stores
    settings: Settings
    release: Release | None
    models: Mapping[int, ModelVersion]

    @classmethod
    def read(cls, stores: Stores, settings: Settings) -> "FigureContext":
        """Reads the release.

        Raises:
            DatabaseUnavailableError: the results database does not answer.
        """
        try:
            release = stores.results.release()
        except ModelUnavailableError:
            return cls(stores, settings, None, {})
        known = {model.model_version: model for model in stores.results.models()}
        return cls(stores, settings, release, {v: known[v] for v in release.versions if v in known})

    @property
    def serving(self) -> tuple[int, ...]:
        """Versions whose results are shown: the stable one, and the canary."""
        if self.release is None:
            return ()
        return tuple(version for version in (self.release.stable, self.release.canary) if version is not None)

    @property
    def recent(self) -> timedelta:
        return timedelta(hours=self.settings.monitoring.recent_hours)


Figures = Callable[[FigureContext], Iterable[Metric]]


class Gauges:
    """Builds gauges: a name with its help once, then values with labels. A value of None gives no series."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._values: dict[str, dict[tuple[str, ...], float]] = {}

    def describe(self, name: str, text: str, *labels: str) -> None:
        """Names a gauge, what it means, and its labels."""
        self._texts[name] = (text, labels)
        self._values[name] = {}

    def set(self, name: str, value: Any, *labels: object) -> None:
        """Gives a described gauge a value; the last one for the same labels counts."""
        if value is not None:
            self._values[name][tuple(str(label) for label in labels)] = float(value)

    def families(self) -> list[GaugeMetricFamily]:
        """All of them, those without a value too."""
        made = []
        for name, (text, labels) in self._texts.items():
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, value in self._values[name].items():
                family.add_metric(values, value)
            made.append(family)
        return made
