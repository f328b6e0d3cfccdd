"""A recording as a row of blocks, each read with margins, assessed, band-passed and resampled to the windows' rate."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from configs.contract import FeatureSpec
from configs.errors import SourceError
from warehouse.signal.codes import CodeArray, all_bad
from warehouse.signal.ecg import FloatArray, RecordingHeader, SignalSource
from warehouse.signal.filtering import SETTLE_S, resample, usable_band
from warehouse.signal.quality import CONTEXT_S, Assessment, assess, block_grid_samples
from warehouse.signal.r_peaks import CELL_S, MARGIN_S

LEAST_RATE_HZ = 25.0  # below, a QRS complex is no more than one or two samples


@dataclass(frozen=True)
class Block:
    """One block of a recording; columns are the leads in use.

    Attributes:
        start_s: start of the block, without margin, seconds from the recording's start.
        end_s: its end.
        first_cell: index of its first detection cell.
        n_cells: detection cells of the recording; the last one also takes what remains.
        last: no block follows.
        first_in: index in the recording of the first sample assessed, at the recording's rate.
        core_in: first and one past the last sample of the block itself, at the recording's rate.
        assessment: of the block and its margins, at the recording's rate.
        first_out: index in the recording of `signal[0]`, at the windows' rate.
        signal: float32 (n, leads), band-passed millivolts at the windows' rate, with margins.
    """

    start_s: float
    end_s: float
    first_cell: int
    n_cells: int
    last: bool
    first_in: int
    core_in: tuple[int, int]
    assessment: Assessment
    first_out: int
    signal: FloatArray

    @property
    def core_code(self) -> CodeArray:
        """uint8 (n, leads): quality codes of the block without its margins."""
        start, stop = self.core_in
        return self.assessment.code[start - self.first_in : stop - self.first_in]

    def lost_before(self) -> npt.NDArray[np.int64]:
        """(n + 1,): samples without any usable lead before each sample of the block and its margins."""
        return np.concatenate([[0], np.cumsum(all_bad(self.assessment.code) > 0)])


def n_output_samples(header: RecordingHeader, spec: FeatureSpec) -> int:
    """Samples of the recording at the windows' rate; the last is not later than the recording's last."""
    if header.n_samples <= 0:
        return 0
    return math.floor((header.n_samples - 1) / header.sampling_rate_hz * spec.sampling_rate_hz + 1e-9) + 1


@dataclass(frozen=True)
class Plan:
    """Where a block is: [start_s, end_s), its first detection cell, the recording's cells, whether it is the last."""

    start_s: float
    end_s: float
    first_cell: int
    n_cells: int
    last: bool


def plan_blocks(header: RecordingHeader, *, block_s: float) -> list[Plan]:
    """The recording's blocks, in order.

    A block is a whole number of detection cells, at least one and as many as `block_s` holds; the last also takes
    what remains.

    Raises:
        SourceError: the sampling rate is too low for ECG.
    """
    if header.sampling_rate_hz < LEAST_RATE_HZ:
        raise SourceError(
            header.source_uri or header.name,
            f"a sampling rate of {header.sampling_rate_hz:g} Hz is too low to see heart beats",
            f"Give a recording of at least {LEAST_RATE_HZ:g} Hz, or correct the rate in its header.",
        )
    n_cells = max(1, math.floor(header.duration_s / CELL_S))
    cells_a_block = max(1, math.floor(block_s / CELL_S + 1e-9))
    starts = list(range(0, n_cells, cells_a_block))
    ends = [*(cell * CELL_S for cell in starts[1:]), header.duration_s]
    return [
        Plan(cell * CELL_S, end_s, cell, n_cells, cell == starts[-1]) for cell, end_s in zip(starts, ends, strict=True)
    ]


def read_block(source: SignalSource, spec: FeatureSpec, columns: list[int], plan: Plan) -> Block:
    """Reads one block, which needs to know nothing of the others.

    Margins are wide enough for filters, quality checks and RR intervals to be settled in the block.

    Args:
        source: the recording.
        spec: rate and band of the result, and the longest RR interval.
        columns: the leads to use, at least one.

    Raises:
        SourceError: the file is damaged.
    """
    header, rate_hz = source.header, source.header.sampling_rate_hz
    margin_s = SETTLE_S + max(CONTEXT_S, MARGIN_S, spec.max_rr_s, (spec.before_ms + spec.after_ms) / 1000)
    grid = block_grid_samples(rate_hz)
    core = math.ceil(plan.start_s * rate_hz), header.n_samples if plan.last else math.ceil(plan.end_s * rate_hz)
    first = max(0, math.floor((core[0] - margin_s * rate_hz) / grid) * grid)
    stop = min(header.n_samples, math.ceil((core[1] + margin_s * rate_hz) / grid) * grid)
    found = assess(source.read(first, stop)[:, columns], sampling_rate_hz=rate_hz, band_hz=spec.band_hz)
    first_out = math.ceil(first / rate_hz * spec.sampling_rate_hz - 1e-9)
    stop_out = math.floor((stop - 1) / rate_hz * spec.sampling_rate_hz + 1e-9) + 1
    resampled = [
        resample(
            found.filtered[:, lead].astype(np.float64),
            sampling_rate_hz=rate_hz,
            first_sample=first,
            target_rate_hz=spec.sampling_rate_hz,
            target_first=first_out,
            target_n=stop_out - first_out,
            highest_hz=usable_band(spec.band_hz, sampling_rate_hz=rate_hz)[1],
        ).astype(np.float32)
        for lead in range(len(columns))
    ]
    signal = np.ascontiguousarray(np.stack(resampled, axis=1))
    return Block(
        plan.start_s, plan.end_s, plan.first_cell, plan.n_cells, plan.last, first, core, found, first_out, signal
    )
