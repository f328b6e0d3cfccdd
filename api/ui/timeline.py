"""A recording's timeline: heart rate, anomalies, unusable time; from a day to a beat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import bottleneck as bn
import numpy as np
import numpy.typing as npt

from api.ui.drawing import Area, Box, Curve, Drawing, Lines, Text

Times = npt.NDArray[np.float64]

LEFT_MM: Final = 18.0
RATE_MM: Final = 36.0
FLAGS_MM: Final = 13.0
SIGNAL_MM: Final = 16.0
UNUSABLE_MM: Final = 5.0
AXIS_MM: Final = 6.0
MAX_TICKS: Final = 500  # flagged beats in view up to which each is drawn, and a link
MAX_RR_S: Final = 3.0
NARROWEST_MM: Final = 0.5
SMOOTH_BEATS: Final = 5
STEPS_S: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400)


@dataclass(frozen=True)
class Beats:
    """All windows of a recording in order: id, R peak in seconds, score (NaN: none) and whether flagged; all (n,)."""

    window_id: npt.NDArray[np.int64]
    time_s: Times
    score: npt.NDArray[np.float32]
    flagged: npt.NDArray[np.bool_]

    def rate_bpm(self) -> npt.NDArray[np.float64]:
        """Heart rate at each beat, from the RR intervals of neighbours in the recording; NaN where none is known."""
        rate = np.full(len(self.time_s), np.nan)
        rr = np.diff(self.time_s)
        known = (np.diff(self.window_id) == 1) & (rr > 0.2) & (rr <= MAX_RR_S)
        rate[1:][known] = 60 / rr[known]
        if len(rate) >= SMOOTH_BEATS:
            rate = np.where(np.isnan(rate), np.nan, bn.move_median(rate, SMOOTH_BEATS, min_count=1))
        return rate


@dataclass(frozen=True)
class Words:
    """Text on a timeline, in the reader's language."""

    label: str
    rate: str
    flagged: str
    flagged_share: str
    unusable: str
    clock: Callable[[float, float], str]  # (seconds from the start, seconds a step) to what the axis says
    reason: Callable[[str], str]
    score: Callable[[float], str] = "{:.1f}".format
    length: Callable[[float], str] = "{:.1f} s".format


@dataclass(frozen=True)
class Span:
    """A stretch that could not be used; `lead` None: no window covers it."""

    start_s: float
    end_s: float
    reason: str
    lead: str | None


@dataclass(frozen=True)
class Envelope:
    """Least and greatest of one lead at each of n moments: times in seconds, float32 (n,) millivolts, NaN: none."""

    lead: str
    time_s: Times
    low_mv: npt.NDArray[np.float32]
    high_mv: npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """The stretch [start_s, end_s) of a recording, on a drawing `width` millimetres wide."""

    start_s: float
    end_s: float
    width: float

    @property
    def scale(self) -> float:
        return (self.width - LEFT_MM - 2) / max(self.end_s - self.start_s, 1e-9)

    def x(self, time_s: npt.ArrayLike) -> Times:
        return LEFT_MM + (np.asarray(time_s, dtype=np.float64) - self.start_s) * self.scale


def draw_timeline(
    beats: Beats,
    spans: Sequence[Span],
    view: View,
    words: Words,
    link: Callable[[int], str] | None = None,
    signal: Envelope | None = None,
) -> Drawing:
    """The timeline of a view.

    Args:
        signal: of the view; None where there is none.
        link: where a flagged beat's tick leads to; None for print.
    """
    height = RATE_MM + FLAGS_MM + SIGNAL_MM + UNUSABLE_MM + AXIS_MM
    sheet = Drawing(round(view.width, 2), height, words.label)
    sheet.facts = {"x0": LEFT_MM, "start-s": f"{view.start_s:.3f}", "end-s": f"{view.end_s:.3f}", "right": 2}
    sheet.add(Box(LEFT_MM, 0, view.width - LEFT_MM - 2, height - AXIS_MM, "lane"))
    _axis(sheet, view, words)
    _rate(sheet, beats, view, words)
    _flags(sheet, beats, view, words, link)
    if signal is not None:
        _signal(sheet, signal, view)
    _unusable(sheet, spans, view, words)
    return sheet


def _axis(sheet: Drawing, view: View, words: Words) -> None:
    bottom = sheet.height - AXIS_MM
    room = 22 / view.scale  # seconds that a label takes
    step = next((s for s in STEPS_S if s >= room), STEPS_S[-1])
    for time_s in np.arange(np.ceil(view.start_s / step) * step, view.end_s, step).tolist():
        x = float(view.x(time_s))
        sheet.add(Lines(np.array([(x, 0, x, bottom + 1.2)]), "lane-line"))
        if x < view.width - 16:
            sheet.add(Text(x + 0.6, bottom + 4.3, words.clock(time_s, step), "axis"))


def _rate(sheet: Drawing, beats: Beats, view: View, words: Words) -> None:
    rate = beats.rate_bpm()
    low, high = _rate_range(rate)
    scale = (RATE_MM - 3) / (high - low)

    def y(bpm: npt.ArrayLike) -> Times:
        return 1.5 + (high - np.clip(np.asarray(bpm, dtype=np.float64), low, high)) * scale

    for bpm in range(int(low), int(high) + 1, 25 if high - low <= 150 else 50):
        level = float(y(bpm))
        sheet.add(Lines(np.array([(LEFT_MM, level, view.width - 2, level)]), "lane-line"))
        sheet.add(Text(LEFT_MM - 1, level + 1, str(bpm), "axis", "end"))
    sheet.add(Text(LEFT_MM + 1, 4.2, words.rate, "lane-name"))
    seen = (beats.time_s >= view.start_s) & (beats.time_s < view.end_s) & ~np.isnan(rate)
    binned = _binned(view, beats.time_s[seen], rate[seen])
    if binned is None:
        sheet.add(Curve(np.column_stack([view.x(beats.time_s[seen]), y(rate[seen])]), "rate"))
        return
    x, least, middle, most = binned
    for run in np.split(np.arange(len(x)), np.flatnonzero(np.diff(x) > 3.0) + 1):
        band = np.concatenate([np.column_stack([x, y(most)])[run], np.column_stack([x, y(least)])[run][::-1]])
        sheet.add(Area(band, "rate-band"), Curve(np.column_stack([x, y(middle)])[run], "rate"))


def _rate_range(rate: Times) -> tuple[float, float]:
    known = rate[~np.isnan(rate)]
    if not len(known):
        return 50.0, 100.0
    low, high = np.percentile(known, [0.1, 99.9])
    low, high = max(0.0, 25 * np.floor((low - 2) / 25)), min(300.0, 25 * np.ceil((high + 2) / 25))
    return float(low), float(max(high, low + 50))


def _binned(view: View, time_s: Times, rate: Times) -> tuple[Times, Times, Times, Times] | None:
    """Least, median and greatest rate of each half millimetre that has beats; None when there are few beats a bin."""
    n_bins = max(1, int((view.width - LEFT_MM - 2) * 2))
    if len(time_s) < 2 * n_bins:
        return None
    of = np.minimum(((time_s - view.start_s) / (view.end_s - view.start_s) * n_bins).astype(np.int64), n_bins - 1)
    order = np.lexsort((rate, of))
    of, rate = of[order], rate[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(of) > 0]))
    stops = np.append(starts[1:], len(of))
    n = stops - starts
    x = view.x(view.start_s + (of[starts] + 0.5) * (view.end_s - view.start_s) / n_bins)
    return x, rate[starts + n // 20], rate[starts + n // 2], rate[stops - 1 - n // 20]


def _flags(sheet: Drawing, beats: Beats, view: View, words: Words, link: Callable[[int], str] | None) -> None:
    top, bottom = RATE_MM, RATE_MM + FLAGS_MM
    sheet.add(Lines(np.array([(LEFT_MM, bottom, view.width - 2, bottom)]), "lane-line"))
    seen = (beats.time_s >= view.start_s) & (beats.time_s < view.end_s)
    flagged = np.flatnonzero(seen & beats.flagged)
    if len(flagged) > MAX_TICKS or (link is None and len(flagged) > 50):
        name = words.flagged_share
        _share_flagged(sheet, beats.time_s[seen], beats.flagged[seen], view, bottom)
    else:
        name = words.flagged
        for i in flagged.tolist():
            x, score = float(view.x(beats.time_s[i])), float(beats.score[i])
            tall = (FLAGS_MM - 5) * min(1.0, 0.25 + score / 12)
            href = link(int(beats.window_id[i])) if link else ""
            title = f"{words.clock(float(beats.time_s[i]), 1)} · {words.score(score)}"
            sheet.add(Box(x - 0.35, bottom - tall, 0.7, tall, "flag-tick", title, href))
    sheet.add(Text(LEFT_MM + 1, top + 3.6, name, "lane-name"))


def _share_flagged(sheet: Drawing, time_s: Times, flagged: npt.NDArray[np.bool_], view: View, bottom: float) -> None:
    """Where there are too many to draw: the share of flagged beats, a bar a millimetre."""
    n_bins = max(1, int(view.width - LEFT_MM - 2))
    edges = np.linspace(view.start_s, view.end_s, n_bins + 1)
    n_all, _ = np.histogram(time_s, edges)
    n_flagged, _ = np.histogram(time_s[flagged], edges)
    x = view.x(edges)
    for i in np.flatnonzero(n_flagged).tolist():
        tall = (FLAGS_MM - 5) * max(n_flagged[i] / n_all[i], 0.04)
        sheet.add(Box(float(x[i]), bottom - tall, float(x[i + 1] - x[i]) * 0.9, tall, "flag-bar"))


def _signal(sheet: Drawing, signal: Envelope, view: View) -> None:
    """One lead from its least to its greatest value at each moment; a line where these are the same."""
    top, room = RATE_MM + FLAGS_MM, SIGNAL_MM - 1.0
    low, high = signal.low_mv.astype(np.float64), signal.high_mv.astype(np.float64)
    known = np.isfinite(low)
    if known.any():
        # An artefact or two may run over the edge, but do not make the heart small.
        least, most = np.percentile(low[known], 2), np.percentile(high[known], 98)
        margin = 0.25 * max(most - least, 0.2)
        least, most = least - margin, most + margin
        x = view.x(signal.time_s)
        y_low, y_high = (top + 0.5 + (most - np.clip(v, least, most)) / (most - least) * room for v in (low, high))
        if np.array_equal(low[known], high[known]):
            sheet.add(Curve(np.column_stack([x, y_low]), "signal"))
        else:
            sheet.add(Lines(np.column_stack([x, y_high, x, np.maximum(y_low, y_high + 0.15)])[known], "signal-bar"))
    sheet.add(Lines(np.array([(LEFT_MM, top + SIGNAL_MM, view.width - 2, top + SIGNAL_MM)]), "lane-line"))
    sheet.add(Text(LEFT_MM - 1, top + 8.5, signal.lead, "axis", "end"))


def _unusable(sheet: Drawing, spans: Sequence[Span], view: View, words: Words) -> None:
    top = RATE_MM + FLAGS_MM + SIGNAL_MM
    sheet.add(Text(LEFT_MM - 1, top + 3.6, words.unusable, "axis", "end"))
    drawn_to = {True: 0.0, False: 0.0}
    for span in spans:
        if span.end_s <= view.start_s or span.start_s >= view.end_s:
            continue
        start, end = np.clip(view.x([span.start_s, span.end_s]), LEFT_MM, view.width - 2).tolist()
        whole = span.lead is None
        end = max(end, start + NARROWEST_MM)
        if end - drawn_to[whole] < NARROWEST_MM:  # hidden by the one before: a bad day has thousands
            continue
        drawn_to[whole] = end
        length = words.length(span.end_s - span.start_s)
        title = " · ".join(filter(None, [words.reason(span.reason), span.lead, length]))
        y, height = (top + 0.6, UNUSABLE_MM - 1.2) if whole else (top + 2.6, UNUSABLE_MM - 3.2)
        sheet.add(Box(start, y, end - start, height, "unusable-bar" if whole else "unusable-lead", title))
