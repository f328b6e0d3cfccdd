"""Strips and beat pictures of an opened recording, with their words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from api.deps import Services
from api.ui.drawing import Curve, Drawing
from api.ui.i18n import Words
from api.ui.opened import Opened, beats_between, explain, read_stretch
from api.ui.paper import Paper
from api.ui.signal import FloatArray
from api.ui.strip import MARGIN_MM, Explained, StripContent, draw_beat, draw_strip
from api.ui.strip import Words as StripWords
from configs.contract import MV_PER_COUNT
from warehouse.store.window_block import WindowBlock

LONGEST_S: Final = 30.0
SHORTEST_S: Final = 6.0


@dataclass(frozen=True)
class BeatPictures:
    """What the page of one beat shows.

    Attributes:
        strip: some seconds around it.
        beats: for each lead in use, the beat with what was expected, and the patient's usual one, at one scale.
        explained: what the model said; None while it cannot answer.
    """

    strip: Drawing
    beats: Sequence[tuple[str, Drawing, Drawing | None]]
    explained: Explained | None
    block: WindowBlock


def strip_length(paper: Paper, width_mm: float) -> float:
    """Seconds of a strip that fills `width_mm`, in whole big squares."""
    squares = np.floor((width_mm - MARGIN_MM) / 5.0)
    return float(np.clip(squares * 5.0 / paper.speed, SHORTEST_S, LONGEST_S))


def stretch_around(opened: Opened, middle_s: float, length_s: float) -> tuple[float, float]:
    """The stretch of `length_s` around a moment, moved into the recording."""
    length_s = min(length_s, opened.duration_s)
    start_s = min(max(0.0, middle_s - length_s / 2), opened.duration_s - length_s)
    return start_s, start_s + length_s


def plain_strip(services: Services, opened: Opened, start_s: float, end_s: float, paper: Paper, t: Words) -> Drawing:
    """A strip of any stretch."""
    signal, _ = read_stretch(services, opened, start_s, end_s)
    content = StripContent(
        start_s, end_s, signal, opened.leads, beats_between(opened, start_s, end_s), None, _unusable(opened, t)
    )
    return draw_strip(content, paper, _words(opened, content, paper, t))


def beat_pictures(
    services: Services, opened: Opened, window_id: int, typical: FloatArray, paper: Paper, t: Words, length_s: float
) -> BeatPictures:
    """The strip around one beat, and the beat by itself beside the patient's usual one."""
    r_peak_s = float(opened.beats.time_s[np.searchsorted(opened.beats.window_id, window_id)])
    start_s, end_s = stretch_around(opened, r_peak_s, length_s)
    signal, block = read_stretch(services, opened, start_s, end_s)
    explained = explain(services, opened, block, window_id)
    beats = beats_between(opened, start_s, end_s, window_id)
    content = StripContent(start_s, end_s, signal, opened.leads, beats, explained, _unusable(opened, t))
    strip = draw_strip(content, paper, _words(opened, content, paper, t))
    return BeatPictures(strip, _side_by_side(opened, block, window_id, explained, typical, paper, t), explained, block)


def _side_by_side(
    opened: Opened,
    block: WindowBlock,
    window_id: int,
    explained: Explained | None,
    typical: FloatArray,
    paper: Paper,
    t: Words,
) -> list[tuple[str, Drawing, Drawing | None]]:
    close = Paper(50.0, paper.gain)
    at = int(np.flatnonzero(block.window_id == window_id)[0])
    mv = block.samples[at].astype(np.float32) * np.float32(MV_PER_COUNT)
    rate = opened.spec.sampling_rate_hz
    pictures: list[tuple[str, Drawing, Drawing | None]] = []
    for slot, lead in enumerate(opened.leads):
        if lead is None or not block.lead_mask[at, slot]:
            continue
        usual = typical[:, slot]
        over, error = [], None
        if explained is not None:
            over, error = [(explained.reconstruction_mv[:, slot], "expected")], explained.error[:, slot]
        room = close.lead_room(np.concatenate([mv[:, slot], usual, *(curve for curve, _ in over)]))
        this = draw_beat(
            mv[:, slot], rate, close, label=t("beat.picture", lead=lead), name=lead, over=over, error=error, room=room
        )
        known = np.isfinite(usual).any()
        beside = draw_beat(usual, rate, close, label=t("beat.usual_picture", lead=lead), name=lead, room=room)
        pictures.append((lead, this, beside if known else None))
    return pictures


def thumbnail(block: WindowBlock, i: int, slot: int, sampling_rate_hz: float, label: str) -> Drawing:
    """One lead of a window, small, without a grid: 25 mm/s, and 4 mm/mV or what fits."""
    mv = block.samples[i, ::2, slot].astype(np.float64) * MV_PER_COUNT
    sheet = Drawing(float(np.ceil(len(mv) * 2 / sampling_rate_hz * 25)), 9.0, label)
    x = np.arange(len(mv)) * 2 / sampling_rate_hz * 25
    low, high = min(float(mv.min()), 0.0), max(float(mv.max()), 0.0)
    gain = min(4.0, 8.4 / max(high - low, 1e-9))
    sheet.add(Curve(np.column_stack([x, 0.3 + (high - mv) * gain + (8.4 - (high - low) * gain) / 2]), "signal"))
    return sheet


def _unusable(opened: Opened, t: Words) -> list[tuple[float, float, str]]:
    return [
        (span.start_s, span.end_s, t.term("reason", span.reason) + (f" ({span.lead})" if span.lead else ""))
        for span in opened.spans
    ]


def _words(opened: Opened, content: StripContent, paper: Paper, t: Words) -> StripWords:
    low, high = opened.spec.band_hz
    caption = f"{t.plain(paper.speed)} mm/s  {t.plain(paper.gain)} mm/mV  {t.plain(low)}-{t.plain(high)} Hz"
    step = 1 if paper.speed >= 25 else 2
    first = int(np.ceil(content.start_s))
    clock = [(float(s), clock_text(opened, s, t)) for s in range(first, int(content.end_s) + 1) if s % step == 0]
    leads = ", ".join(lead for lead in opened.leads if lead)
    label = t(
        "strip.label", recording=opened.row["name"], leads=leads, start=t.duration(content.start_s),
        beats=len(content.beats), flagged=sum(beat.flagged for beat in content.beats),
    )  # fmt: skip
    return StripWords(label, caption, t("strip.unusable"), clock, t.number)


def clock_text(opened: Opened, time_s: float, t: Words) -> str:
    """Time of day where it is known, else time since the start."""
    if opened.row["start_time_known"]:
        return opened.moment(time_s).strftime("%H:%M:%S")
    return t.duration(time_s)
