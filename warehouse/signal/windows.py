"""From a recording to windows: one a beat, with what the model needs to know about the beats before.

    source -> blocks (read, quality, band-pass, resample) -> R peaks -> windows, rejected beats, unusable time

Memory stays flat however long the recording is, and the result does not depend on the block length.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from configs.contract import MV_PER_COUNT, RR_COLUMNS, FeatureSpec
from warehouse.signal.blocks import Block, n_output_samples, plan_blocks
from warehouse.signal.codes import GAP, reason_of
from warehouse.signal.context import RrContext, RunningTemplate
from warehouse.signal.coverage import TimeAccount
from warehouse.signal.ecg import (
    AAMI_OF_SYMBOL,
    AamiClass,
    BeatAnnotations,
    Int16Array,
    Reason,
    RejectedBeat,
    SignalSource,
    TimeArray,
    UnusableSpan,
    WindowChunk,
    Windows,
)  # fmt: skip
from warehouse.signal.prepared import Preparation, PrepareAll, Prepared, cells_of
from warehouse.signal.r_peaks import Looks, RPeakDetector, check_detector

_RR_PREV, _RR_NEXT = RR_COLUMNS.index("rr_prev_s"), RR_COLUMNS.index("rr_next_s")
_NAME_PREFIX = re.compile(r"^(?:ecg|ekg|lead)[\s_-]+")
_SYMBOL = np.dtype("<U4")

IntArray = npt.NDArray[np.int64]


def choose_leads(lead_names: Sequence[str], spec: FeatureSpec) -> list[int | None]:
    """Fills the model's lead slots from a recording's leads.

    Names compare without case, outer blanks and a leading "ECG ", "EKG " or "Lead ". Each slot takes the first of
    its names that the recording has and no earlier slot took; then slots still empty take, in order, the leads that
    are left.

    Returns:
        For each slot the index into `lead_names`, or None when there is no lead for it.
    """
    names = [_NAME_PREFIX.sub("", name.strip().casefold()) for name in lead_names]
    chosen: list[int | None] = []
    for wanted in spec.lead_slots:
        matches = (i for name in wanted for i, have in enumerate(names) if have == name.casefold() and i not in chosen)
        chosen.append(next(matches, None))
    left = [i for i in range(len(names)) if i not in chosen]
    return [left.pop(0) if slot is None and left else slot for slot in chosen]


def cut_windows(
    source: SignalSource,
    spec: FeatureSpec,
    *,
    block_s: float,
    detector: str = "neurokit",
    use_annotations: bool = True,
    prepare_all: PrepareAll | None = None,
) -> Iterator[WindowChunk]:
    """Cuts a recording into windows of one beat each.

    Every second of the recording is in a window's territory or in an unusable span of lead None (see
    `warehouse.signal.coverage`), and every beat is a window or a rejected beat. Spans of a single lead come in
    addition: that lead could not be used while others could.

    Args:
        source: the recording.
        spec: geometry, band and context.
        block_s: seconds of signal in memory at a time, rounded down to whole detection cells of 30 s.
        detector: neurokit2 method for recordings without reference annotations.
        use_annotations: take R peaks and labels from the source's annotations when it has some.
        prepare_all: prepares the blocks elsewhere; None prepares each here when it is its turn.

    Yields:
        One chunk a block, in time order; at least one. Spans come in order and once they cannot grow any more.

    Raises:
        ConfigurationError: unknown detector.
        SourceError: the source is damaged, or its sampling rate is below 25 Hz.
    """
    check_detector(detector)
    header = source.header
    slots = choose_leads(header.leads, spec)
    annotations = _reference_beats(source) if use_annotations else None
    if all(slot is None for slot in slots):
        yield _unusable(header.duration_s, spec, annotations, Reason.NO_LEAD)
        return
    if n_output_samples(header, spec) < spec.window_samples:
        yield _unusable(header.duration_s, spec, annotations, Reason.TOO_SHORT)
        return
    columns = [slot for slot in slots if slot is not None]
    cutter = _Cutter(source, spec, slots, annotations, detector)
    prepare = Preparation(spec, columns, detector if annotations is None else None)
    plans = plan_blocks(header, block_s=block_s)
    prepared = (prepare(source, plan) for plan in plans) if prepare_all is None else prepare_all(prepare, plans)
    for one in prepared:
        yield cutter.cut(one)


def _reference_beats(source: SignalSource) -> BeatAnnotations | None:
    """The source's beats in time order, without annotations that are no beats; None when there are none."""
    annotations = source.annotations()
    if annotations is None:
        return None
    beats = np.isin(annotations.symbol, list(AAMI_OF_SYMBOL))
    if not beats.any():
        return None
    order = np.argsort(annotations.time_s[beats], kind="stable")
    time_s = np.asarray(annotations.time_s, dtype=np.float64)[beats][order]
    return BeatAnnotations(time_s, annotations.symbol[beats][order].astype(_SYMBOL))


def _unusable(duration_s: float, spec: FeatureSpec, annotations: BeatAnnotations | None, reason: Reason) -> WindowChunk:
    """A recording that gives no window at all."""
    spans = [UnusableSpan(0.0, duration_s, reason)] if duration_s > 0 else []
    rejected = []
    if annotations is not None:
        pairs = zip(annotations.time_s.tolist(), annotations.symbol.tolist(), strict=True)
        rejected = [RejectedBeat(i, time_s, reason, symbol) for i, (time_s, symbol) in enumerate(pairs)]
    return WindowChunk(empty_windows(spec), spans, rejected)


def empty_windows(spec: FeatureSpec) -> Windows:
    """No windows, in the shapes and types of some."""
    shape = (0, spec.window_samples, spec.n_leads)
    return Windows(
        beat_index=np.zeros(0, np.int64),
        r_peak_s=np.zeros(0, np.float64),
        samples=np.zeros(shape, np.int16),
        lead_mask=np.zeros((0, spec.n_leads), np.bool_),
        rr=np.zeros((0, len(RR_COLUMNS)), np.float32),
        template=np.zeros(shape, np.int16),
        template_beats=np.zeros(0, np.int16),
        quality=np.zeros(0, np.float32),
        symbol=np.zeros(0, _SYMBOL),
        aami_class=np.zeros(0, _SYMBOL),
    )


def concatenate(parts: Sequence[Windows]) -> Windows:
    """Windows of several chunks of one recording as one; at least one part."""
    return Windows(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Windows)})


def _take(windows: Windows, rows: slice) -> Windows:
    return Windows(**{f.name: getattr(windows, f.name)[rows] for f in fields(Windows)})


class _Cutter:
    """Cuts successive blocks of one recording; holds what later blocks need to know of earlier ones."""

    def __init__(
        self,
        source: SignalSource,
        spec: FeatureSpec,
        slots: list[int | None],
        annotations: BeatAnnotations | None,
        detector: str,
    ) -> None:
        self._spec = spec
        self._rate_in_hz = source.header.sampling_rate_hz
        self._n_in = source.header.n_samples
        self._n_out = n_output_samples(source.header, spec)
        self._slot_of_column = [slot for slot, column in enumerate(slots) if column is not None]
        self._names = [source.header.leads[column] for column in slots if column is not None]
        self._annotations = annotations
        self._detector = RPeakDetector(detector, sampling_rate_hz=spec.sampling_rate_hz, n_leads=len(self._names))
        self._rr = RrContext(spec)
        self._template = RunningTemplate(spec)
        self._waiting = empty_windows(spec)  # the last window, until the next R peak is known
        self._last_r_peak_s = -np.inf
        self._n_beats = 0
        self._time = TimeAccount(self._names, sampling_rate_hz=self._rate_in_hz, max_rr_s=spec.max_rr_s)

    def cut(self, prepared: Prepared) -> WindowChunk:
        block = prepared.block
        time_s, symbol = self._beats_of(prepared)
        rr = self._rr.extend(self._rr_prev(block, time_s))
        windows, rejected = self._windows(block, time_s, symbol, rr)
        reasons: list[Reason | None] = [None] * len(time_s)
        for beat in rejected:
            reasons[beat.beat_index - self._n_beats] = beat.reason
        self._n_beats += len(time_s)
        unusable = self._time.extend(
            block.core_code, first_sample=block.core_in[0], end_s=block.end_s, last=block.last,
            r_peak_s=time_s, rejected=reasons,
        )  # fmt: skip
        return WindowChunk(
            self._release(windows, rr, reasons, last=block.last),
            unusable,
            rejected,
            self._signal(block),
            self._removed(block),
        )

    def _signal(self, block: Block) -> Int16Array:
        """The block itself, without margins, as it is stored; no sample where the recording has none."""
        rate_hz = self._spec.sampling_rate_hz
        start = math.ceil(block.start_s * rate_hz - 1e-9)
        stop = self._n_out if block.last else math.ceil(block.end_s * rate_hz - 1e-9)
        signal = block.signal[start - block.first_out : stop - block.first_out]
        nearest = np.rint(np.arange(start, stop) / rate_hz * self._rate_in_hz).astype(np.int64) - block.first_in
        codes = block.assessment.code
        gap = codes[np.clip(nearest, 0, len(codes) - 1)] == GAP
        counts = np.clip(np.rint(signal / MV_PER_COUNT), -32767, 32767)
        return np.where(gap, np.iinfo(np.int16).min, counts).astype(np.int16)

    def _removed(self, block: Block) -> Int16Array:
        """What the band-pass took out of each second of the block, as `WindowChunk.removed`."""
        second = np.arange(math.floor(block.start_s), math.ceil(block.end_s - 1e-9))
        n = len(block.assessment.code)
        start, stop = (
            np.clip(np.floor(s * self._rate_in_hz).astype(np.int64) - block.first_in, 0, n)
            for s in (second, second + 1)
        )
        levels = block.assessment.removed_levels(start, stop)
        removed: Int16Array = np.clip(np.rint(levels / MV_PER_COUNT), -32767, 32767).astype(np.int16)
        return removed

    def _release(
        self, windows: Windows, rr: npt.NDArray[np.float32], reasons: list[Reason | None], *, last: bool
    ) -> Windows:
        """Windows whose next R peak is known; the last one waits for it."""
        if len(rr) and len(self._waiting):
            self._waiting.rr[-1, _RR_NEXT] = rr[0, _RR_PREV]
        if not len(rr) and not last:
            return empty_windows(self._spec)
        ready = concatenate([self._waiting, windows])
        wait = not last and bool(reasons) and reasons[-1] is None
        self._waiting = _take(ready, slice(len(ready) - 1, None)) if wait else empty_windows(self._spec)
        return _take(ready, slice(0, len(ready) - 1)) if wait else ready

    def _beats_of(self, prepared: Prepared) -> tuple[TimeArray, npt.NDArray[np.str_]]:
        """Times and symbols of the block's beats; the symbol is empty for detected ones."""
        block = prepared.block
        if self._annotations is not None:
            time_s = self._annotations.time_s
            first = 0 if block.start_s == 0 else int(np.searchsorted(time_s, block.start_s))
            stop = len(time_s) if block.last else int(np.searchsorted(time_s, block.end_s))
            return time_s[first:stop], self._annotations.symbol[first:stop]
        assert prepared.looks is not None
        peaks = self._detect(block, prepared.looks)
        return peaks / self._spec.sampling_rate_hz, np.zeros(len(peaks), dtype=_SYMBOL)

    def _detect(self, block: Block, looks: Sequence[Looks]) -> IntArray:
        cells = cells_of(block, self._rate_in_hz, self._spec.sampling_rate_hz, self._n_out)
        return np.concatenate(
            [self._detector.detect(**vars(cell), looks=seen) for cell, seen in zip(cells, looks, strict=True)]
        )

    def _rr_prev(self, block: Block, time_s: TimeArray) -> TimeArray:
        """Seconds from the beat before each beat; 0 when that is too long, or all leads were lost in between."""
        previous = np.concatenate([[self._last_r_peak_s], time_s[:-1]]) if len(time_s) else time_s
        lost = block.lost_before()
        bounds = [
            np.clip(np.floor(np.maximum(t, 0) * self._rate_in_hz).astype(np.int64) - block.first_in, 0, len(lost) - 1)
            for t in (previous, time_s)
        ]
        rr = time_s - previous
        if len(time_s):
            self._last_r_peak_s = float(time_s[-1])
        return np.where((rr <= self._spec.max_rr_s) & (lost[bounds[0]] == lost[bounds[1]]), rr, 0.0)

    def _windows(
        self, block: Block, time_s: TimeArray, symbol: npt.NDArray[np.str_], rr: npt.NDArray[np.float32]
    ) -> tuple[Windows, list[RejectedBeat]]:
        spec = self._spec
        center = np.rint(time_s * spec.sampling_rate_hz).astype(np.int64)
        start, stop = center - spec.before_samples, center + spec.after_samples
        inside = (start >= 0) & (stop <= self._n_out)
        start_in, stop_in = self._input_samples(block, start, stop)
        bad = block.assessment.code > 0
        bad_before = np.concatenate([np.zeros((1, bad.shape[1]), np.int64), np.cumsum(bad, axis=0)])
        usable = (bad_before[stop_in] == bad_before[start_in]) & inside[:, None]
        keep = np.flatnonzero(usable.any(axis=1))
        mask = np.zeros((len(keep), spec.n_leads), dtype=np.bool_)
        mask[:, self._slot_of_column] = usable[keep]
        rows = start[keep, None] - block.first_out + np.arange(spec.window_samples)
        counts = np.rint(block.signal[rows] / MV_PER_COUNT)
        samples = np.zeros((len(keep), spec.window_samples, spec.n_leads), dtype=np.int16)
        samples[:, :, self._slot_of_column] = np.where(usable[keep, None, :], np.clip(counts, -32767, 32767), 0)
        template, template_beats = self._template.extend(samples, mask, rr[keep])
        windows = Windows(
            beat_index=self._n_beats + keep,
            r_peak_s=time_s[keep],
            samples=samples,
            lead_mask=mask,
            rr=rr[keep],
            template=template,
            template_beats=template_beats,
            quality=block.assessment.window_quality(start_in[keep], stop_in[keep], usable[keep]),
            symbol=symbol[keep].astype(_SYMBOL),
            aami_class=np.array([_class_of(s) for s in symbol[keep].tolist()], dtype=_SYMBOL),
        )
        dropped = np.flatnonzero(~usable.any(axis=1)).tolist()
        rejected = [
            self._reject(block, self._n_beats + i, float(time_s[i]), str(symbol[i]), inside[i], start_in[i], stop_in[i])
            for i in dropped
        ]
        return windows, rejected

    def _input_samples(self, block: Block, start: IntArray, stop: IntArray) -> tuple[IntArray, IntArray]:
        """The windows' extent at the recording's rate, counted from the block's first sample."""
        step, n = self._rate_in_hz / self._spec.sampling_rate_hz, len(block.assessment.code)
        start_in = np.floor(start * step + 1e-9).astype(np.int64) - block.first_in
        stop_in = np.ceil(stop * step - 1e-9).astype(np.int64) - block.first_in
        return np.clip(start_in, 0, n), np.clip(stop_in, 0, n)

    def _reject(
        self, block: Block, index: int, time_s: float, symbol: str, inside: bool, start_in: int, stop_in: int
    ) -> RejectedBeat:
        """Why a beat gave no window: of each lead the most severe reason, of all leads the one least lost."""
        if not inside:
            return RejectedBeat(index, time_s, Reason.EDGE, symbol, "the window reaches beyond the recording")
        worst = block.assessment.code[start_in:stop_in].max(axis=0)
        words = [f"{name}: {reason_of(code)}" for name, code in zip(self._names, worst.tolist(), strict=True)]
        return RejectedBeat(index, time_s, reason_of(worst.min()), symbol, "; ".join(words))


def _class_of(symbol: str) -> str:
    return AAMI_OF_SYMBOL[symbol].value if symbol else AamiClass.UNLABELLED.value
