"""Sheets of beats that were judged wrongly, drawn to scale as ECG strips: 25 mm/s, 10 mm/mV, as SVG in millimetres."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from configs import contract
from configs.contract import FeatureSpec
from pipelines.error_beats import ScoredBeats, TestRecording

MM_A_SECOND, MM_A_MV = 25.0, 10.0
BEFORE_S, AFTER_S = 1.4, 1.6  # of a strip, around the beat
LANE_MM, CAPTION_MM, GAP_MM, COLUMNS = 34.0, 11.5, 4.0, 5
_STEPS = 2  # a sample's width in the units of a path: coordinates are whole numbers, which keeps the file small

_STYLE = """
text{font:2.4px sans-serif;fill:#222}.b{font-weight:bold}.p{fill:none;stroke:#111;stroke-width:3;stroke-linejoin:round}
.t{fill:none;stroke:#0a58ca;stroke-width:9;stroke-opacity:.45;stroke-linejoin:round}.s{fill:#0a58ca;fill-opacity:.07}
.m{stroke:#e8a5a5;stroke-width:.05}.c{stroke:#d98080;stroke-width:.12}.g{fill:url(#paper)}.l{fill:#777}
""".replace("\n", "")
_PAPER = (
    '<pattern id="paper" width="5" height="5" patternUnits="userSpaceOnUse"><path class="m" '
    'd="M1 0V5M2 0V5M3 0V5M4 0V5M0 1H5M0 2H5M0 3H5M0 4H5"/><path class="c" d="M0 0V5M0 0H5"/></pattern>'
)


def draw_sheet(
    title: str,
    rows: Sequence[int],
    beats: ScoredBeats,
    recordings: Mapping[str, TestRecording],
    spec: FeatureSpec,
) -> str:
    """Draws beats, COLUMNS strips a row: all leads, the neighbours' symbols, the template under the beat.

    Args:
        rows: which of `beats`, in the order of the strips.
        recordings: by name.

    Returns:
        An SVG document.
    """
    width = (BEFORE_S + AFTER_S) * MM_A_SECOND
    height = CAPTION_MM + LANE_MM * spec.n_leads
    n_rows = -(-len(rows) // COLUMNS)
    total_w, total_h = COLUMNS * (width + GAP_MM) + GAP_MM, n_rows * (height + GAP_MM) + GAP_MM + 6
    strips = []
    for i, row in enumerate(rows):
        x = GAP_MM + (i % COLUMNS) * (width + GAP_MM)
        y = GAP_MM + 6 + (i // COLUMNS) * (height + GAP_MM)
        recording = recordings[str(beats.data.recording[row])]
        drawn = _strip(i, row, beats, recording, spec)
        strips.append(f'<g transform="translate({x:g} {y:g})">{drawn}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_w:g}mm" height="{total_h:g}mm" '
        f'viewBox="0 0 {total_w:g} {total_h:g}"><style>{_STYLE}</style><defs>{_PAPER}</defs>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="b" x="{GAP_MM:g}" y="7" style="font-size:4.5px">{escape(title)}</text>{"".join(strips)}</svg>\n'
    )


def _strip(number: int, row: int, beats: ScoredBeats, recording: TestRecording, spec: FeatureSpec) -> str:
    width, rate_hz = (BEFORE_S + AFTER_S) * MM_A_SECOND, spec.sampling_rate_hz
    at_s = float(beats.data.r_peak_s[row])
    first = round((at_s - BEFORE_S) * rate_hz)
    n = round((BEFORE_S + AFTER_S) * rate_hz) + 1
    index = np.arange(first, first + n)
    inside = (index >= 0) & (index < len(recording.signal_mv))
    signal = np.where(inside[:, None], recording.signal_mv[np.clip(index, 0, len(recording.signal_mv) - 1)], np.nan)
    window_x = (round(at_s * rate_hz) - spec.before_samples - first) / rate_hz * MM_A_SECOND
    window_w = spec.window_samples / rate_hz * MM_A_SECOND
    box = f'<rect y="{CAPTION_MM:g}" width="{width:g}" height="{LANE_MM * len(recording.leads):g}"/>'
    parts = [_caption(row, beats), f'<clipPath id="k{number}">{box}</clipPath>']
    template = beats.data.inputs[contract.TEMPLATE][row]
    has_template = beats.data.inputs[contract.TEMPLATE_BEATS][row, 0] > 0
    for lead, name in enumerate(recording.leads):
        top = CAPTION_MM + lead * LANE_MM
        line = signal[:, lead]
        known = line[np.isfinite(line)]
        centre = (known.min() + known.max()) / 2 if len(known) else 0.0
        zero_y = top + LANE_MM / 2 + centre * MM_A_MV
        parts.append(f'<rect class="g" y="{top:g}" width="{width:g}" height="{LANE_MM:g}"/>')
        parts.append(f'<rect class="s" x="{window_x:.2f}" y="{top:g}" width="{window_w:.2f}" height="{LANE_MM:g}"/>')
        curves = _path("p", line, 0.0, zero_y, rate_hz)
        if has_template and beats.data.inputs[contract.LEAD_MASK][row, lead] > 0:
            curves = _path("t", template[:, lead], window_x, zero_y, rate_hz) + curves
        parts.append(f'<g clip-path="url(#k{number})">{curves}</g>')
        parts.append(f'<text class="l" x="1" y="{top + LANE_MM - 1:g}">{escape(name)}</text>')
    parts.append(_neighbours(recording, at_s))
    return "".join(parts)


def _caption(row: int, beats: ScoredBeats) -> str:
    at_s = float(beats.data.r_peak_s[row])
    when, kind = f"{int(at_s // 60)}:{at_s % 60:05.2f}", f"{beats.symbol[row]} ({beats.data.aami_class[row]})"
    what = f"{beats.data.recording[row]} at {when}: {kind}"
    made_of = " ".join(f"{name} {value:.2f}" for name, value in zip(contract.PART_NAMES, beats.parts[row], strict=True))
    found = "not found" if np.isnan(beats.offset_ms[row]) else f"{beats.offset_ms[row]:+.0f} ms"
    rate = "" if np.isnan(beats.rate_bpm[row]) else f"{beats.rate_bpm[row]:.0f}/min, "
    return (
        f'<text class="b" y="2.6">{escape(what)}, score {beats.score[row]:.2f}, R peak {found}</text>'
        f'<text y="6">{made_of}; {rate}quality {beats.quality[row]:.2f}</text>'
    )


def _neighbours(recording: TestRecording, at_s: float) -> str:
    """The annotation symbol above each beat of the strip."""
    times = recording.windows.r_peak_s
    near = np.flatnonzero((times >= at_s - BEFORE_S) & (times <= at_s + AFTER_S))
    return "".join(
        f'<text class="b" text-anchor="middle" x="{(times[i] - at_s + BEFORE_S) * MM_A_SECOND:.1f}" '
        f'y="{CAPTION_MM - 0.8:g}">{escape(str(recording.windows.symbol[i]))}</text>'
        for i in near
    )


def _path(kind: str, mv: npt.NDArray[np.floating[Any]], x_mm: float, zero_mm: float, rate_hz: float) -> str:
    """A curve, broken where samples are NaN; in whole steps of half a sample's width, so it is true to 10 uV."""
    unit_mm = MM_A_SECOND / rate_hz / _STEPS
    y = np.rint(np.nan_to_num(mv) * -MM_A_MV / unit_mm).astype(int)
    drawn, pen = [], False
    for i, known in enumerate(np.isfinite(mv).tolist()):
        if known:
            drawn.append(f"{_STEPS} {y[i] - y[i - 1]}" if pen else f"M{_STEPS * i} {y[i]}l")
        pen = known
    data = " ".join(drawn).replace("l ", "l").replace(" -", "-").replace(" M", "M")
    return f'<path class="{kind}" transform="translate({x_mm:.2f} {zero_mm:.2f}) scale({unit_mm:.5f})" d="{data}"/>'
