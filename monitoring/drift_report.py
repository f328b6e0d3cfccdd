"""The drift report: one HTML file with its plots, for a person who has to say what happened."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np

from configs.contract import MV_PER_COUNT, FeatureSpec
from monitoring.drift_features import FloatArray, feature_of
from monitoring.drift_plots import beats_plot, distribution_plot
from monitoring.drift_tests import Finding
from warehouse.store import Stores

if TYPE_CHECKING:
    from monitoring.drift import Comparison

_MOST_PLOTTED = 40  # findings a site; the table has all of them


def write_report(file: Path, comparisons: Sequence["Comparison"], stores: Stores) -> None:
    """Writes the report of one run, whole or not at all."""
    template = (Path(__file__).parent / "drift_report.html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    shown = [
        [(finding, _plots(comparison, finding, stores)) for finding in comparison.findings[:_MOST_PLOTTED]]
        for comparison in comparisons
    ]
    page = environment.from_string(template).render(comparisons=comparisons, shown=shown)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(file)


def _plots(comparison: "Comparison", finding: Finding, stores: Stores) -> list[str]:
    made_by = [s for s in comparison.streams if s.recording_id in finding.recordings and finding.key in s.values]
    if comparison.reference is None or not made_by:
        return []
    reference = comparison.reference.of(finding.key, made_by[0].slots.get(finding.lead))
    feature = feature_of(finding.feature)
    values: FloatArray = np.concatenate([s.values[finding.key] for s in made_by])
    values = feature.compared(values[np.isfinite(values)])
    plots = [distribution_plot(feature, reference, values)] if reference is not None and len(values) else []
    spec = FeatureSpec.model_validate(stores.results.models(comparison.model_version)[0].feature_spec)
    block = stores.warehouse.read_windows(spec, finding.examples)
    lead = finding.lead or next(iter(made_by[0].slots), "")
    slot = made_by[0].slots.get(lead)
    if len(block) and slot is not None:
        band = (comparison.reference.beats or {}).get(lead)
        beats = [beat.astype(np.float64) * MV_PER_COUNT for beat in block.samples[:, :, slot]]
        plots.append(
            beats_plot(band, beats, sampling_rate_hz=spec.sampling_rate_hz, before_samples=spec.before_samples)
        )
    return plots
