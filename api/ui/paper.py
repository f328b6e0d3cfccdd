"""ECG paper: how seconds and millivolts become millimetres."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from api.ui.drawing import Drawing, Lines, grid_lines

SPEEDS_MM_S: Final = (12.5, 25.0, 50.0)
GAINS_MM_MV: Final = (5.0, 10.0, 20.0)
PULSE_MV: Final = 1.0
PULSE_S: Final = 0.2
MOST_MM: Final = 30.0


@dataclass(frozen=True)
class Paper:
    """Paper speed in mm/s and gain in mm/mV, of which 25 and 10 are the standard.

    Attributes:
        most_mm: room above or below the baseline; a curve beyond it stays at the edge, as on paper.
    """

    speed: float = 25.0
    gain: float = 10.0
    most_mm: float = MOST_MM

    @classmethod
    def parse(cls, speed: str | None, gain: str | None) -> "Paper":
        """What was asked for, or the standard where it is not on the list."""
        return cls(_one_of(SPEEDS_MM_S, speed, 25.0), _one_of(GAINS_MM_MV, gain, 10.0))

    def draw_grid(self, sheet: Drawing, x0: float, y0: float, width: float, height: float) -> None:
        """Lines every millimetre, stronger ones every five, from the corner (x0, y0)."""
        sheet.add(Lines(grid_lines(x0, y0, width, height, 1.0), "grid-minor"))
        sheet.add(Lines(grid_lines(x0, y0, width, height, 5.0), "grid-major"))

    def pulse(self, x0: float, baseline: float) -> npt.NDArray[np.float64]:
        """Corners of the calibration pulse, 1 mV high and 0.2 s wide, with a foot of 1.5 mm on both sides."""
        wide, high = PULSE_S * self.speed, PULSE_MV * self.gain
        xs = [x0, x0 + 1.5, x0 + 1.5, x0 + 1.5 + wide, x0 + 1.5 + wide, x0 + 3 + wide]
        ys = [baseline, baseline, baseline - high, baseline - high, baseline, baseline]
        return np.column_stack([xs, ys])

    def lead_room(self, signal_mv: npt.NDArray[np.float32]) -> tuple[float, float]:
        """Millimetres a lead needs above and below its baseline for `signal_mv` (any shape): whole big squares."""
        known = signal_mv[np.isfinite(signal_mv)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        above = 5.0 * np.ceil((max(high, PULSE_MV) * self.gain + 1.5) / 5.0)
        below = 5.0 * np.ceil((max(-low, 0.0) * self.gain + 1.5) / 5.0)
        return float(np.clip(above, 10, self.most_mm)), float(np.clip(below, 5, self.most_mm))


def _one_of(known: tuple[float, ...], text: str | None, standard: float) -> float:
    return next((value for value in known if text == f"{value:g}"), standard)
