"""Where the time of a recording goes: windowed, or unusable with a reason. Nothing in between.

Every beat owns the time that is nearer to its R peak than to any other and at most `max_rr_s / 2` away. The
territory of a beat with a window counts as windowed, but for stretches in which every lead is bad. The rest is
unusable: for the reason the leads are bad, else for the reason the beat was rejected, else because there is no beat.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from warehouse.signal.codes import CodeArray, all_bad, spans_of
from warehouse.signal.ecg import Reason, TimeArray, UnusableSpan

_WINDOWED = None
Label = Reason | None
Interval = tuple[float, float]


def account(
    start_s: float,
    end_s: float,
    *,
    r_peak_s: TimeArray,
    rejected: Sequence[Reason | None],
    bad: Sequence[UnusableSpan],
    max_rr_s: float,
) -> tuple[list[Interval], list[UnusableSpan]]:
    """Divides [start_s, end_s) into windowed intervals and unusable spans.

    Args:
        start_s: start of the stretch to account for, seconds from the recording's start.
        end_s: its end.
        r_peak_s: (n,) ascending; must hold every beat within max_rr_s / 2 of the stretch, and the next ones.
        rejected: per beat why it gave no window; None when it gave one.
        bad: disjoint and ascending, where no lead is usable.
        max_rr_s: twice the longest time that belongs to a beat on either side.

    Returns:
        Windowed intervals and unusable spans (lead None), each ascending; together they are exactly [start_s, end_s).
    """
    if not end_s > start_s:
        return [], []
    bad_start = np.array([span.start_s for span in bad], dtype=np.float64)
    bad_end = np.array([span.end_s for span in bad], dtype=np.float64)
    left, right = territories(r_peak_s, max_rr_s=max_rr_s)
    cuts = np.unique(np.concatenate([[start_s, end_s], bad_start, bad_end, left, right]))
    cuts = cuts[(cuts >= start_s) & (cuts <= end_s)]
    middles = (cuts[:-1] + cuts[1:]) / 2
    in_bad = _interval_of(middles, bad_start, bad_end)
    in_beat = _interval_of(middles, left, right)
    windowed: list[Interval] = []
    spans: list[UnusableSpan] = []
    for i, (begin, stop) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)):
        label: Label = Reason.NO_BEAT
        if in_bad[i] >= 0:
            label = bad[in_bad[i]].reason
        elif in_beat[i] >= 0:
            label = rejected[in_beat[i]]
        _append(windowed, spans, begin, stop, label)
    return windowed, spans


def _append(windowed: list[Interval], spans: list[UnusableSpan], begin: float, stop: float, label: Label) -> None:
    if label is _WINDOWED:
        if windowed and windowed[-1][1] == begin:
            begin = windowed.pop()[0]
        windowed.append((begin, stop))
        return
    if spans and spans[-1].end_s == begin and spans[-1].reason is label:
        begin = spans.pop().start_s
    spans.append(UnusableSpan(begin, stop, label))


def territories(r_peak_s: TimeArray, *, max_rr_s: float) -> tuple[TimeArray, TimeArray]:
    """Start and end of the time that belongs to each of (n,) ascending R peaks; neighbours meet half way."""
    middle = (r_peak_s[:-1] + r_peak_s[1:]) / 2
    left = np.maximum(r_peak_s - max_rr_s / 2, np.concatenate([[-np.inf], middle]) if len(r_peak_s) else middle)
    right = np.minimum(r_peak_s + max_rr_s / 2, np.concatenate([middle, [np.inf]]) if len(r_peak_s) else middle)
    return left, right


def _interval_of(times: TimeArray, start: TimeArray, end: TimeArray) -> npt.NDArray[np.int64]:
    """Index of the interval each time lies in, -1 for none; intervals are disjoint and ascending."""
    index = np.searchsorted(start, times, side="right") - 1
    inside = index >= 0
    inside[inside] = times[inside] < end[index[inside]]
    return np.where(inside, index, -1)


class SpanMerger:
    """Joins spans of one reason that touch, across block borders. One merger a lead (None for all leads)."""

    def __init__(self) -> None:
        self._open: UnusableSpan | None = None

    def add(self, spans: Iterable[UnusableSpan]) -> list[UnusableSpan]:
        """Takes further spans, ascending; returns those that cannot grow any more."""
        closed = []
        for span in spans:
            if self._open and self._open.end_s == span.start_s and self._open.reason is span.reason:
                self._open = replace(self._open, end_s=span.end_s)
                continue
            if self._open:
                closed.append(self._open)
            self._open = span
        return closed

    def close(self) -> list[UnusableSpan]:
        """Returns the last span, if there is one."""
        last, self._open = self._open, None
        return [last] if last else []


class TimeAccount:
    """Accounts for a recording's time block by block; spans that touch across blocks are one.

    Args:
        leads: names of the columns of the codes.
        sampling_rate_hz: of the codes.
        max_rr_s: twice the longest time that belongs to a beat on either side.
    """

    def __init__(self, leads: Sequence[str], *, sampling_rate_hz: float, max_rr_s: float) -> None:
        self._rate_hz = sampling_rate_hz
        self._max_rr_s = max_rr_s
        self._done_s = 0.0  # accounted for up to here
        self._r_peak_s = np.empty(0, dtype=np.float64)
        self._rejected: list[Reason | None] = []
        self._bad: list[UnusableSpan] = []
        self._all = SpanMerger()
        self._single = [(name, SpanMerger()) for name in leads]

    def extend(
        self,
        code: CodeArray,
        *,
        first_sample: int,
        end_s: float,
        last: bool,
        r_peak_s: TimeArray,
        rejected: Sequence[Reason | None],
    ) -> list[UnusableSpan]:
        """Takes the next block; what comes within max_rr_s / 2 of its end is left to the next block's beats.

        Args:
            code: uint8 (n, leads), quality codes of the block.
            first_sample: index of the first of them in the recording.
            end_s: the block's end, seconds from the recording's start.
            last: no block follows.
            r_peak_s: the block's beats.
            rejected: per beat why it gave no window; None when it gave one.

        Returns:
            Spans that can grow no more: those of lead None ascending, then those of single leads.
        """
        self._r_peak_s = np.concatenate([self._r_peak_s, r_peak_s])
        self._rejected += rejected
        lost = all_bad(code)
        self._bad += spans_of(lost, first_sample=first_sample, sampling_rate_hz=self._rate_hz, lead=None)
        until_s = end_s if last else max(self._done_s, end_s - self._max_rr_s / 2)
        _, spans = account(
            self._done_s, until_s,
            r_peak_s=self._r_peak_s, rejected=self._rejected, bad=self._bad, max_rr_s=self._max_rr_s,
        )  # fmt: skip
        self._forget(until_s)
        closed = self._all.add(spans) + (self._all.close() if last else [])
        for column, (name, merger) in enumerate(self._single):
            alone = np.where(lost > 0, 0, code[:, column]).astype(np.uint8)
            closed += merger.add(
                spans_of(alone, first_sample=first_sample, sampling_rate_hz=self._rate_hz, lead=name)
            ) + (merger.close() if last else [])
        return closed

    def _forget(self, until_s: float) -> None:
        """Drops what no later block needs: beats further back than half the longest RR interval, but the last."""
        keep = max(0, int(np.searchsorted(self._r_peak_s, until_s - self._max_rr_s / 2)) - 1)
        self._r_peak_s, self._rejected = self._r_peak_s[keep:], self._rejected[keep:]
        self._bad = [span for span in self._bad if span.end_s > until_s]
        self._done_s = until_s


def check_coverage(duration_s: float, windowed: Iterable[Interval], unusable: Iterable[UnusableSpan]) -> list[str]:
    """Says what is wrong with an account of a recording's time; an empty list when it is exact.

    Args:
        duration_s: length of the recording.
        windowed: intervals that belong to beats with a window.
        unusable: spans; those of a single lead are not looked at.

    Returns:
        One line for each overlap, hole or empty interval.
    """
    pieces = sorted([*windowed, *((span.start_s, span.end_s) for span in unusable if span.lead is None)])
    problems = []
    at = 0.0
    for start, end in pieces:
        if start != at:
            problems.append(f"{'hole' if start > at else 'overlap'} between {at:g} s and {start:g} s")
        if end <= start:
            problems.append(f"empty interval at {start:g} s")
        at = max(at, end)
    if at != duration_s:
        problems.append(f"ends at {at:g} s, not at {duration_s:g} s")
    return problems
