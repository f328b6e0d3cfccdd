"""How much a beat looks like the patient's own typical beat."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from warehouse.signal.ecg import FloatArray, Int16Array


class _Beats(Protocol):
    """n windows with their running templates; a `warehouse.store.window_block.WindowBlock`."""

    @property
    def samples(self) -> Int16Array: ...

    @property
    def template(self) -> Int16Array: ...

    @property
    def lead_mask(self) -> npt.NDArray[np.bool_]: ...

    @property
    def template_beats(self) -> Int16Array: ...


def familiarity(beats: _Beats) -> FloatArray:
    """Likeness of each beat to the running template of the beats before it.

    The mean over usable leads of the correlation of beat and template, negative ones counted as 0: 1 is the same
    shape, 0 nothing in common. NaN where there is no template yet, or no lead with any change in it.

    Returns:
        float32 (n,).
    """
    x, y = _centred(beats.samples), _centred(beats.template)
    power = np.sqrt(np.einsum("nlw,nlw->nl", x, x) * np.einsum("nlw,nlw->nl", y, y))
    known = beats.lead_mask & (power > 0) & (beats.template_beats > 0)[:, None]
    likeness = np.maximum(np.minimum(np.einsum("nlw,nlw->nl", x, y) / np.where(known, power, 1.0), 1.0), 0.0)
    n_known = known.sum(axis=1)
    mean = (likeness * known).sum(axis=1) / np.maximum(n_known, 1)
    return np.where(n_known > 0, mean, np.nan).astype(np.float32)


def _centred(windows: Int16Array) -> npt.NDArray[np.float64]:
    """(n, W, L) to float64 (n, L, W), each lead's mean taken out: a lead's samples lie side by side to be summed."""
    x = np.ascontiguousarray(windows.transpose(0, 2, 1), dtype=np.float64)
    x -= np.add.reduce(x, axis=2, keepdims=True) / x.shape[2]  # for one window half the time of `mean`
    return x
