"""A block of windows as it travels: out of the warehouse, through Beam, into the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from configs import contract
from warehouse.signal.ecg import FloatArray, Int16Array, TimeArray

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class WindowBlock:
    """n windows of one window set, in beat order.

    Attributes:
        window_id: int64 (n,).
        recorded_at_us: int64 (n,), microseconds since 2000-01-01 UTC, of the R peak.
        r_peak_s: float64 (n,), seconds from the recording's start.
        samples: int16 (n, window_samples, leads), microvolts.
        lead_mask: bool (n, leads).
        rr: float32 (n, 5), seconds, columns as `contract.RR_COLUMNS`.
        template: int16 (n, window_samples, leads), microvolts.
        template_beats: int16 (n,).
        quality: float32 (n,).
        aami_class: S1 (n,).
    """

    window_id: npt.NDArray[np.int64]
    recorded_at_us: npt.NDArray[np.int64]
    r_peak_s: TimeArray
    samples: Int16Array
    lead_mask: npt.NDArray[np.bool_]
    rr: FloatArray
    template: Int16Array
    template_beats: Int16Array
    quality: FloatArray
    aami_class: npt.NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.window_id)

    def select(self, keep: npt.NDArray[np.bool_]) -> "WindowBlock":
        """The windows where `keep` (n,) is true."""
        return WindowBlock(**{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})

    def model_inputs(self) -> dict[str, FloatArray]:
        """The model's raw inputs, as `configs.contract` defines them: float32, millivolts and seconds."""
        return {
            contract.SAMPLES: self.samples.astype(np.float32) * np.float32(contract.MV_PER_COUNT),
            contract.LEAD_MASK: self.lead_mask.astype(np.float32),
            contract.RR: self.rr,
            contract.TEMPLATE: self.template.astype(np.float32) * np.float32(contract.MV_PER_COUNT),
            contract.TEMPLATE_BEATS: self.template_beats.astype(np.float32)[:, None],
        }


def lead_mask_to_bits(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
    """bool (n, leads) to int16 (n,): bit i is slot i."""
    weights = (1 << np.arange(mask.shape[1])).astype(np.int16)
    return np.asarray((mask * weights).sum(axis=1), dtype=np.int16)


def bits_to_lead_mask(bits: npt.NDArray[np.int16], n_leads: int) -> npt.NDArray[np.bool_]:
    """int16 (n,) to bool (n, leads)."""
    return np.asarray((bits[:, None] >> np.arange(n_leads)) & 1 == 1)


def to_datetime(recorded_at_us: int) -> datetime:
    """Microseconds since 2000-01-01 UTC as a timezone-aware moment."""
    return _EPOCH + timedelta(microseconds=int(recorded_at_us))


def block_kinds(spec: contract.FeatureSpec) -> Mapping[str, str]:
    """Columns of a block on the wire (`binary_copy` kinds), in the order they are queried in."""
    size = spec.window_samples * spec.n_leads * 2
    return {
        "window_id": "int8",
        "recorded_at": "timestamptz",
        "r_peak_s": "float8",
        "samples": f"bytes:{size}",
        "lead_mask": "int2",
        "rr_prev_s": "float4",
        "rr_next_s": "float4",
        "rr_median_s": "float4",
        "rr_p90_s": "float4",
        "rr_spread": "float4",
        "template": f"bytes:{size}",
        "template_beats": "int2",
        "quality": "float4",
        "aami_class": "bytes:1",
    }


def block_from_columns(columns: Mapping[str, npt.NDArray[Any]], spec: contract.FeatureSpec) -> WindowBlock:
    """A block of what `block_kinds` columns gave."""
    shape = (-1, spec.window_samples, spec.n_leads)
    return WindowBlock(
        window_id=columns["window_id"],
        recorded_at_us=columns["recorded_at"],
        r_peak_s=columns["r_peak_s"],
        samples=columns["samples"].view("<i2").reshape(shape),
        lead_mask=bits_to_lead_mask(columns["lead_mask"], spec.n_leads),
        rr=np.stack([columns[name] for name in contract.RR_COLUMNS], axis=1),
        template=columns["template"].view("<i2").reshape(shape),
        template_beats=columns["template_beats"],
        quality=columns["quality"],
        aami_class=columns["aami_class"].view("S1").reshape(-1),
    )
