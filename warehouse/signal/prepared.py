"""What can be done of a block without the blocks before it: nearly all the work, so that processes can share it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from configs.contract import FeatureSpec
from warehouse.signal.blocks import Block, Plan, n_output_samples, read_block
from warehouse.signal.codes import CodeArray
from warehouse.signal.ecg import FloatArray, SignalSource
from warehouse.signal.r_peaks import CELL_S, MARGIN_S, Looks, look


@dataclass(frozen=True)
class Cell:
    """One cell of R-peak detection, as `RPeakDetector.detect` takes it."""

    x: FloatArray
    code: CodeArray
    first: int
    start: int
    stop: int


@dataclass(frozen=True)
class Prepared:
    """A block, and what detectors saw in each of its cells; None where R peaks are known."""

    block: Block
    looks: Sequence[Looks] | None


@dataclass(frozen=True)
class Preparation:
    """How the blocks of a recording are prepared. Travels to worker processes.

    Attributes:
        columns: the leads in use.
        detector: None where R peaks are known.
    """

    spec: FeatureSpec
    columns: list[int]
    detector: str | None

    def __call__(self, source: SignalSource, plan: Plan) -> Prepared:
        """Prepares one block; raises as `read_block`."""
        block = read_block(source, self.spec, self.columns, plan)
        looks = None
        if self.detector is not None:
            rate_hz, n_out = self.spec.sampling_rate_hz, n_output_samples(source.header, self.spec)
            looks = [
                look(self.detector, cell.x, cell.code, first=cell.first, sampling_rate_hz=rate_hz)
                for cell in cells_of(block, source.header.sampling_rate_hz, rate_hz, n_out)
            ]
        nothing = np.empty((0, len(self.columns)), np.float32)  # the signal at the recording's rate has served
        return Prepared(replace(block, assessment=replace(block.assessment, filtered=nothing)), looks)


#: Prepares all blocks of a recording, and gives them in order.
PrepareAll = Callable[[Preparation, Sequence[Plan]], Iterable[Prepared]]


def cells_of(block: Block, rate_in_hz: float, rate_hz: float, n_out: int) -> Iterator[Cell]:
    """The detection cells of a block.

    Args:
        rate_in_hz, rate_hz: of the recording, and of the windows.
        n_out: samples of the recording at the windows' rate.
    """
    index_out = block.first_out + np.arange(len(block.signal))
    nearest = np.rint(index_out * (rate_in_hz / rate_hz)).astype(np.int64) - block.first_in
    code = block.assessment.code[np.minimum(nearest, len(block.assessment.code) - 1)]
    margin = round(MARGIN_S * rate_hz)
    cell, start = block.first_cell, round(block.first_cell * CELL_S * rate_hz)
    stop_block = n_out if block.last else round(block.end_s * rate_hz)
    while start < stop_block:
        cell += 1
        stop = stop_block if cell == block.n_cells else round(cell * CELL_S * rate_hz)
        low = max(0, start - margin - block.first_out)
        high = stop + margin - block.first_out
        yield Cell(block.signal[low:high], code[low:high], block.first_out + low, start, stop)
        start = stop
