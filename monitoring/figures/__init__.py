"""Figures that are read from the databases, in groups. A new group is a function, and a line in `GROUPS`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from monitoring.figures import burden, credentials, drift, flow, models, quality, retraining
from monitoring.figures.base import FigureContext, Figures, Gauges

#: Every group that `python -m monitoring.exporter` serves, by its name in `ecg_figures_up`.
GROUPS: Final[Mapping[str, Figures]] = MappingProxyType(
    {
        "flow": flow.figures,
        "models": models.figures,
        "quality": quality.figures,
        "burden": burden.figures,
        "credentials": credentials.figures,
        "drift": drift.figures,
        "retraining": retraining.figures,
    }
)

__all__ = ["GROUPS", "FigureContext", "Figures", "Gauges"]
