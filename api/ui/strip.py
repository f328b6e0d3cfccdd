"""The strip: signal on ECG paper, with what was expected, where it differs, and the beats before and after."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from api.ui.drawing import Area, Box, Curve, Drawing, Lines, Text
from api.ui.paper import Paper
from api.ui.signal import FloatArray, Signal

MARGIN_MM: Final = 15.0  # left of the signal: lead name and calibration pulse
BEATS_MM: Final = 10.0  # above: RR intervals and flagged beats
HEAT_MM: Final = 5.0  # under each lead
CLOCK_MM: Final = 9.0
#: Error from which a level of heat begins, in units of normal beats' spread; a bar's height says it too.
HEAT_LEVELS: Final = (0.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Beat:
    """A beat in view; `score` None: not scored. `note` is what is written above it."""

    r_peak_s: float
    score: float | None = None
    flagged: bool = False
    target: bool = False
    href: str = ""
    title: str = ""


@dataclass(frozen=True)
class Explained:
    """What the model says of one window: its start, and float32 (window_samples, slots) in mV and in spreads.

    Attributes:
        parts: what each of `contract.PART_NAMES` adds to the score's measure.
    """

    start_s: float
    reconstruction_mv: FloatArray
    error: FloatArray
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Words:
    """Text on a strip, in the reader's language."""

    label: str
    caption: str
    unusable: str
    clock: Sequence[tuple[float, str]] = ()
    score: Callable[[float], str] = "{:.1f}".format


@dataclass(frozen=True)
class StripContent:
    """What a strip shows of [start_s, end_s)."""

    start_s: float
    end_s: float
    signal: Signal
    leads: Sequence[str | None]
    beats: Sequence[Beat] = ()
    explained: Explained | None = None
    unusable: Sequence[tuple[float, float, str]] = field(default_factory=list)


def draw_strip(content: StripContent, paper: Paper, words: Words) -> Drawing:
    """A strip to scale. Leads one under the other, each with its heat where a window is explained."""
    slots = [slot for slot, lead in enumerate(content.leads) if lead is not None]
    width = MARGIN_MM + np.ceil((content.end_s - content.start_s) * paper.speed / 5.0 - 1e-6) * 5.0
    heat = HEAT_MM if content.explained is not None else 0.0
    rooms = [paper.lead_room(_all_mv(content, slot)) for slot in slots]
    height = BEATS_MM + sum(above + below + heat for above, below in rooms) + CLOCK_MM
    sheet = Drawing(float(width), float(height), words.label)
    sheet.facts = {
        "x0": MARGIN_MM, "start-s": f"{content.start_s:.6f}", "speed": f"{paper.speed:g}", "gain": f"{paper.gain:g}",
    }  # fmt: skip
    pen = _Pen(sheet, content, paper)
    sheet.add(Box(0, 0, sheet.width, sheet.height, "paper"))
    y = BEATS_MM
    for slot, (above, below) in zip(slots, rooms, strict=True):
        pen.lead(slot, y, above, below, heat)
        y += above + below + heat
    pen.unusable(BEATS_MM, y, words.unusable)
    pen.beats(words)
    pen.clock(y, words)
    return sheet


def _all_mv(content: StripContent, slot: int) -> FloatArray:
    parts = [content.signal.mv[:, slot]]
    if content.explained is not None:
        parts.append(content.explained.reconstruction_mv[:, slot])
    return np.concatenate(parts)


class _Pen:
    """Draws the parts of a strip; x is time, y is handed in."""

    def __init__(self, sheet: Drawing, content: StripContent, paper: Paper) -> None:
        self._sheet = sheet
        self._content = content
        self._paper = paper

    def x(self, time_s: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return MARGIN_MM + (np.asarray(time_s, dtype=np.float64) - self._content.start_s) * self._paper.speed

    def lead(self, slot: int, top: float, above: float, below: float, heat: float) -> None:
        sheet, paper = self._sheet, self._paper
        baseline = top + above
        paper.draw_grid(sheet, 0, top, sheet.width, above + below)
        explained = self._content.explained
        if explained is not None:
            start, end = self._window_of(explained)
            sheet.add(Box(start, top, end - start, above + below + heat, "window"))
        sheet.add(Curve(paper.pulse(1.0, baseline), "pulse"))
        sheet.add(Text(1.5, top + 4, str(self._content.leads[slot]), "lead-name"))
        low, high = top + 0.3, top + above + below - 0.3
        if explained is not None:
            self._heat(explained, slot, top + above + below, heat)
            self._curve(self._times(explained), explained.reconstruction_mv[:, slot], baseline, low, high, "expected")
        self._curve(self._content.signal.time_s, self._content.signal.mv[:, slot], baseline, low, high, "signal")

    def _times(self, explained: Explained) -> npt.NDArray[np.float64]:
        return explained.start_s + np.arange(len(explained.error)) / self._content.signal.sampling_rate_hz

    def _window_of(self, explained: Explained) -> tuple[float, float]:
        ends = [explained.start_s, explained.start_s + len(explained.error) / self._content.signal.sampling_rate_hz]
        start, end = np.clip(self.x(ends), MARGIN_MM, self._sheet.width)
        return float(start), float(end)

    def _curve(
        self, time_s: npt.NDArray[np.float64], mv: FloatArray, baseline: float, low: float, high: float, style: str
    ) -> None:
        seen = (time_s >= self._content.start_s) & (time_s < self._content.end_s)
        y = np.clip(baseline - mv[seen].astype(np.float64) * self._paper.gain, low, high)
        self._sheet.add(Curve(np.column_stack([self.x(time_s[seen]), y]), style))

    def _heat(self, explained: Explained, slot: int, top: float, height: float) -> None:
        times = self._times(explained)
        seen = (times >= self._content.start_s) & (times < self._content.end_s)
        self._sheet.add(Box(MARGIN_MM, top, self._sheet.width - MARGIN_MM, height, "heat-lane"))
        self._sheet.add(*heat_bars(self.x(times[seen]), explained.error[seen, slot], top, height))

    def unusable(self, top: float, bottom: float, name: str) -> None:
        for start_s, end_s, reason in self._content.unusable:
            start, end = np.clip(self.x([start_s, end_s]), MARGIN_MM, self._sheet.width)
            if end > start:
                title = f"{name}: {reason}"
                self._sheet.add(Box(float(start), top, float(end - start), bottom - top, "unusable", title))
                self._sheet.add(Text(float(start) + 0.8, bottom - 1.5, title, "small"))

    def beats(self, words: Words) -> None:
        """A tick at each R peak, RR intervals in milliseconds between, and the flagged ones with their scores."""
        beats = self._content.beats
        ticks = [(x, 6.2, x, BEATS_MM) for x in self.x([beat.r_peak_s for beat in beats])]
        if ticks:
            self._sheet.add(Lines(np.array(ticks, dtype=np.float64), "r-tick"))
        for beat, after in itertools.pairwise(beats):
            middle = float(self.x((beat.r_peak_s + after.r_peak_s) / 2))
            rr_ms = round((after.r_peak_s - beat.r_peak_s) * 1000)
            if 0 < rr_ms <= 3000 and rr_ms * self._paper.speed > 7000:
                self._sheet.add(Text(middle, 9.2, str(rr_ms), "rr", "middle"))
        for beat in beats:
            if beat.flagged:
                self._flag(beat, words)

    def _flag(self, beat: Beat, words: Words) -> None:
        x = float(self.x(beat.r_peak_s))
        style = "flag-target" if beat.target else "flag"
        self._sheet.add(Area(np.array([(x - 1.2, 4.0), (x + 1.2, 4.0), (x, 6.2)]), style))
        text = "" if beat.score is None else words.score(beat.score)
        self._sheet.add(Text(x, 3.4, text, f"{style}-score", "middle", "" if beat.target else beat.href))

    def clock(self, top: float, words: Words) -> None:
        for time_s, text in words.clock:
            x = float(self.x(time_s))
            if MARGIN_MM <= x <= self._sheet.width - 14:
                self._sheet.add(Lines(np.array([(x, top, x, top + 1.5)]), "r-tick"))
                self._sheet.add(Text(x + 0.6, top + 4, text, "clock"))
        self._sheet.add(Text(MARGIN_MM + 0.6, top + 7.8, words.caption, "caption"))


def heat_bars(x: npt.NDArray[np.float64], error: FloatArray, top: float, height: float) -> list[Lines]:
    """A bar a sample, taller and deeper in colour the further off; one shape a level."""
    last = HEAT_LEVELS[-1]
    level = np.searchsorted(HEAT_LEVELS, error, side="right") - 1
    tall = np.clip(error / last, 0.04, 1.0) * height
    bars = np.column_stack([x, np.full(len(x), top), x, top + tall])
    return [Lines(bars[level == i], f"heat-{i}") for i in range(len(HEAT_LEVELS)) if (level == i).any()]


def draw_beat(
    mv: FloatArray,
    sampling_rate_hz: float,
    paper: Paper,
    *,
    label: str,
    name: str,
    over: Sequence[tuple[FloatArray, str]] = (),
    error: FloatArray | None = None,
    room: tuple[float, float] | None = None,
) -> Drawing:
    """One lead of one window by itself.

    Args:
        mv: float32 (samples,), millivolts.
        name: written in the corner.
        over: further curves, with their styles, drawn under it.
        error: float32 (samples,), drawn as heat.
        room: millimetres above and below the baseline; what the curves need when None.
    """
    above, below = room or paper.lead_room(np.concatenate([mv, *(curve for curve, _ in over)]))
    heat = 0.0 if error is None else HEAT_MM
    width = 5.0 * np.ceil(len(mv) / sampling_rate_hz * paper.speed / 5.0)
    sheet = Drawing(float(width), above + below + HEAT_MM, label)
    sheet.add(Box(0, 0, sheet.width, sheet.height, "paper"))
    paper.draw_grid(sheet, 0, 0, sheet.width, above + below)
    x = np.arange(len(mv)) / sampling_rate_hz * paper.speed
    for curve, style in [*over, (mv, "signal")]:
        y = np.clip(above - curve.astype(np.float64) * paper.gain, 0.3, above + below - 0.3)
        sheet.add(Curve(np.column_stack([x, y]), style))
    if error is not None:
        sheet.add(Box(0, above + below, sheet.width, heat, "heat-lane"), *heat_bars(x, error, above + below, heat))
    sheet.add(Text(1.5, 4, name, "lead-name"))
    return sheet
