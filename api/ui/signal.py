"""The signal around a moment, and the beats in it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from configs.contract import MV_PER_COUNT, FeatureSpec
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


def stitch(block: WindowBlock, spec: FeatureSpec, start_s: float, end_s: float) -> Signal:
    """The signal of [start_s, end_s) from windows, which are cut from it at whole samples.

    Between windows that do not touch, and where a lead was not usable, there is NaN.
    """
    rate = spec.sampling_rate_hz
    first, n = round(start_s * rate), max(0, round((end_s - start_s) * rate))
    mv = np.full((n, spec.n_leads), np.nan, dtype=np.float32)
    for i in range(len(block)):
        offset = window_start(block, i, spec) - first
        low, high = max(0, offset), min(n, offset + spec.window_samples)
        if low < high:
            values = block.samples[i, low - offset : high - offset].astype(np.float32) * np.float32(MV_PER_COUNT)
            usable = block.lead_mask[i]
            mv[low:high, usable] = values[:, usable]
    return Signal(first / rate, rate, mv)


def window_start(block: WindowBlock, i: int, spec: FeatureSpec) -> int:
    """First sample of window `i`, counted from the recording's start at the windows' rate."""
    before = 0 if spec.precut_samples else spec.before_samples
    return round(float(block.r_peak_s[i]) * spec.sampling_rate_hz) - before
