"""Plots of the drift report as SVG: how live windows are distributed beside the reference, and beats over its band."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.drift_features import Feature, FloatArray
from monitoring.drift_reference import SHARES, FeatureReference

_W, _H, _LEFT, _BOTTOM = 420, 170, 8, 30
_BINS = 40

Points = npt.NDArray[Any]


def distribution_plot(feature: Feature, reference: FeatureReference, live: FloatArray) -> str:
    """Histograms of the reference and of live windows.

    Args:
        live: (n,), n > 0, on the compared scale.
    """
    quantiles = np.array(reference.quantiles)
    low, high = min(quantiles[1], np.quantile(live, 0.01)), max(quantiles[-2], np.quantile(live, 0.99))
    high = max(high, low + feature.least)
    edges = np.linspace(low - 0.05 * (high - low), high + 0.05 * (high - low), _BINS + 1)
    increasing = quantiles + np.linspace(0, 1e-9, len(quantiles)) * max(1.0, float(np.ptp(quantiles)))
    expected = np.diff(np.interp(edges, increasing, SHARES, left=0.0, right=1.0))
    seen = np.histogram(np.clip(live, edges[0], edges[-1]), edges)[0] / len(live)
    top = max(expected.max(), seen.max(), 1e-9)
    ticks = [(x, f"{feature.natural(float(x)):.3g}") for x in np.linspace(edges[2], edges[-3], 5)]
    body = _steps(edges, expected / top, "reference") + _steps(edges, seen / top, "live")
    return _svg(
        body + _axis(ticks, edges[0], edges[-1], feature.unit), "Distributions of the reference and of live windows"
    )


def beats_plot(
    band: Sequence[Sequence[float]] | None, beats: Sequence[FloatArray], *, sampling_rate_hz: float, before_samples: int
) -> str:
    """Beats of live windows in millivolts, over the reference's band from its 10th to its 90th percentile.

    Args:
        band: quantiles 0.1, 0.5 and 0.9 of the reference's beats; None where it has none of this lead.
    """
    drawn = [*(np.asarray(row) for row in band or ()), *beats]
    low, high = min(float(b.min()) for b in drawn), max(float(b.max()) for b in drawn)
    high = max(high, low + 0.1)

    def points(beat: Points) -> str:
        x = _LEFT + np.arange(len(beat)) * (_W - 2 * _LEFT) / max(1, len(beat) - 1)
        y = (_H - _BOTTOM) * (1 - (np.asarray(beat) - low) / (high - low)) * 0.94 + 4
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))

    body = ""
    if band is not None:
        under, middle, over = (np.asarray(row) for row in band)
        body += f'<polygon class="reference" points="{points(over)} {" ".join(points(under).split(" ")[::-1])}"/>'
        body += f'<polyline class="reference-line" points="{points(middle)}"/>'
    body += "".join(f'<polyline class="live-line" points="{points(beat)}"/>' for beat in beats)
    n = len(drawn[0])
    ticks = [(i, f"{(i - before_samples) / sampling_rate_hz:+.1f}") for i in range(before_samples % 36, n, 36)]
    scale = f'<text x="{_LEFT}" y="12">{high:.2f} mV</text><text x="{_LEFT}" y="{_H - _BOTTOM - 2}">{low:.2f} mV</text>'
    return _svg(body + scale + _axis(ticks, 0, n - 1, "s from the R peak"), "Example beats over those of the reference")


def _steps(edges: FloatArray, heights: FloatArray, name: str) -> str:
    x = _LEFT + (edges - edges[0]) / (edges[-1] - edges[0]) * (_W - 2 * _LEFT)
    y = (_H - _BOTTOM) * (1 - 0.94 * heights)
    corners = [f"{x[0]:.1f},{_H - _BOTTOM}"]
    for i, level in enumerate(y):
        corners += [f"{x[i]:.1f},{level:.1f}", f"{x[i + 1]:.1f},{level:.1f}"]
    corners.append(f"{x[-1]:.1f},{_H - _BOTTOM}")
    return f'<polygon class="{name}" points="{" ".join(corners)}"/>'


def _axis(ticks: Sequence[tuple[float, str]], first: float, last: float, unit: str) -> str:
    y = _H - _BOTTOM
    found = f'<line class="axis" x1="{_LEFT}" y1="{y}" x2="{_W - _LEFT}" y2="{y}"/>'
    for at, text in ticks:
        x = _LEFT + (at - first) / (last - first) * (_W - 2 * _LEFT)
        found += f'<line class="axis" x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 4}"/>'
        found += f'<text x="{x:.1f}" y="{y + 14}" text-anchor="middle">{escape(text)}</text>'
    return found + f'<text x="{_W - _LEFT}" y="{_H - 4}" text-anchor="end">{escape(unit)}</text>'


def _svg(body: str, title: str) -> str:
    name = escape(title)
    return f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{name}"><title>{name}</title>{body}</svg>'
