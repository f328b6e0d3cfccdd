"""A stretch of signal, and where in it a window begins."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from configs.contract import FeatureSpec
from warehouse.store.window_block import WindowBlock

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Signal:
    """A stretch of all lead slots.

    Attributes:
        start_s: of the first sample, from the recording's start.
        sampling_rate_hz: of `mv`.
        mv: float32 (n, slots), millivolts; NaN where there is none.
    """

    start_s: float
    sampling_rate_hz: float
    mv: FloatArray

    @property
    def time_s(self) -> npt.NDArray[np.float64]:
        return self.start_s + np.arange(len(self.mv)) / self.sampling_rate_hz


def window_start(block: WindowBlock, i: int, spec: FeatureSpec) -> int:
    """First sample of window `i`, counted from the recording's start at the windows' rate."""
    before = 0 if spec.precut_samples else spec.before_samples
    return round(float(block.r_peak_s[i]) * spec.sampling_rate_hz) - before
