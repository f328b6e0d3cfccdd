"""The contract between warehouse, training, model and whoever calls it: geometry, keys, signatures, units.

Raw input of a model is what the warehouse holds: millivolts and seconds, never normalised. All
preprocessing is inside the SavedModel. Absent context is a defined input:

- a lead that is missing or unusable: its `LEAD_MASK` entry is 0 and its samples are ignored;
- an RR interval that is unknown (first beat, next to a gap): 0.0 seconds;
- a running template that does not exist yet: `TEMPLATE_BEATS` is 0 and the template's samples are ignored.
"""

import hashlib
import json
import math
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# --- raw features of one window, as the SavedModel's signatures name them -------------------------
SAMPLES: Final = "samples"  # float32 (batch, window_samples, leads), millivolts
LEAD_MASK: Final = "lead_mask"  # float32 (batch, leads), 1 present and usable, 0 not
RR: Final = "rr"  # float32 (batch, len(RR_COLUMNS)), seconds, but for the last column; 0 = unknown
TEMPLATE: Final = "template"  # float32 (batch, window_samples, leads), millivolts
TEMPLATE_BEATS: Final = "template_beats"  # float32 (batch, 1), beats the template was made of; 0 = none
RR_COLUMNS: Final = (
    "rr_prev_s",  # this R peak minus the previous one
    "rr_next_s",  # the next R peak minus this one
    "rr_median_s",  # median of the RR intervals before rr_prev_s (rr_median_beats of them)
    "rr_p90_s",  # 90th percentile of the RR intervals before rr_prev_s (rr_p90_beats of them)
    "rr_spread",  # median of |log(RR / its own rr_median)| of those intervals: how irregular this rhythm is
)
MODEL_INPUTS: Final = (SAMPLES, LEAD_MASK, RR, TEMPLATE, TEMPLATE_BEATS)

# --- what travels beside the raw features in a tf.Example, for labels and slices; never a model input
IS_ANOMALY: Final = "is_anomaly"  # int64, 1 anomalous, 0 normal or taken as normal
LABEL_WEIGHT: Final = "label_weight"  # float32, 1 labelled, 0 not: unlabelled windows do not count in metrics
AAMI_CLASS: Final = "aami_class"  # bytes: N S V F Q, or U when unlabelled
RECORDING: Final = "recording"  # bytes, the recording's name
SEX: Final = "sex"  # bytes: female male unknown
AGE_BAND: Final = "age_band"  # bytes: 0-17 18-39 40-64 65-79 80+ unknown
LEADS: Final = "leads"  # bytes, the leads in this window's slots, e.g. "MLII,V1"
SLICE_FEATURES: Final = (AAMI_CLASS, RECORDING, SEX, AGE_BAND, LEADS)

# --- signatures and outputs ------------------------------------------------------------------------
SIGNATURE_DEFAULT: Final = "serving_default"  # everything below
SIGNATURE_SCORE: Final = "score"  # SCORE, VERDICT and LEAD only: the batch scorer's
SIGNATURE_EXAMPLES: Final = "examples"  # serialized tf.Example in, SCORE, VERDICT and RANK out: TFMA's
EXAMPLES_INPUT: Final = "examples"
SCORE: Final = "score"  # float32 (batch,), -log10 of the share of held-out normal beats that score as high
VERDICT: Final = "verdict"  # int32 (batch,), 1 when score >= threshold
LEAD: Final = "lead"  # int32 (batch,), slot of the lead that contributes most to the score
PARTS: Final = "parts"  # float32 (batch, len(PART_NAMES)), what each part adds to the measure that the score ranks
PART_NAMES: Final = (
    "shape",  # against normal beats of everybody
    "context",  # against this recording's own running template
    "timing",  # early, or followed by a pause, for this rhythm
)
RECONSTRUCTION: Final = "reconstruction"  # float32 (batch, window_samples, leads), millivolts
SAMPLE_ERROR: Final = "sample_error"  # float32 (batch, window_samples, leads), in units of normal beats' spread
THRESHOLD: Final = "threshold"  # float32 (batch,), the model's own
RANK: Final = "rank"  # float32 (batch,) in [0, 1), score / (score + threshold): 0.5 is the threshold

# --- how the warehouse stores samples --------------------------------------------------------------
MV_PER_COUNT: Final = 0.001  # stored int16 counts are microvolts: 1 count is 1 uV, range +-32.767 mV

TRAIN, CALIBRATION, TEST = "train", "calibration", "test"
SPLITS: Final = (TRAIN, CALIBRATION, TEST)


class FeatureSpec(BaseModel):
    """How windows are cut: kept with the data, so that two geometries can live side by side.

    Times are in milliseconds and seconds, frequencies in hertz; the properties turn them into samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("beat-180hz-2lead", description="What people call this geometry.")
    sampling_rate_hz: float = Field(180.0, ge=50, le=2000, description="Rate the windows are resampled to.")
    before_ms: float = Field(390.0, ge=0, le=2000, description="Window start before the R peak.")
    after_ms: float = Field(500.0, gt=0, le=2000, description="Window end after the R peak.")
    band_hz: tuple[float, float] = Field(
        (0.5, 45.0),
        description="Zero-phase Butterworth band-pass, low and high edge; the high edge also removes mains.",
    )
    lead_slots: tuple[tuple[str, ...], ...] = Field(
        (
            ("II", "MLII", "ML2", "I", "MLI", "III", "MLIII", "AVF", "AVL", "D3", "D4"),
            ("V1", "MV1", "V5", "MV5", "CM5", "V2", "MV2", "V4", "MV4", "V3", "V6", "ECG2"),
        ),
        min_length=1,
        max_length=12,
        description="One list a model input lead: the first name the recording has fills the slot; a slot without "
        "one takes a lead nobody asked for, and stays empty (masked) when there is none.",
    )
    rr_median_beats: int = Field(10, ge=1, description="Previous RR intervals in the median reference.")
    rr_p90_beats: int = Field(60, ge=1, description="Previous RR intervals in the 90th percentile reference.")
    template_beats: int = Field(40, ge=1, description="Previous beats in the running template (their median).")
    template_min_rr: tuple[float, float] = Field(
        (0.9, 0.86),
        description="A beat enters the running template unless it came early: its rr_prev is at least these shares of "
        "rr_median and of rr_p90. So an hour of bigeminy does not become the patient's normal.",
    )
    max_rr_s: float = Field(
        3.0,
        gt=0,
        description="Longer stretches between R peaks are reported as unusable (no_beat), and no RR crosses them.",
    )
    precut_samples: int | None = Field(
        None,
        ge=8,
        description="For sources that are already cut into windows (UCR): samples a window; the rest is unused.",
    )

    @model_validator(mode="after")
    def _band_below_nyquist(self) -> Self:
        low, high = self.band_hz
        if not 0 < low < high < self.sampling_rate_hz / 2:
            raise ValueError(
                f"band_hz must satisfy 0 < low < high < {self.sampling_rate_hz / 2:g} (half the sampling rate), "
                f"not {self.band_hz}"
            )
        return self

    @property
    def before_samples(self) -> int:
        return math.floor(self.before_ms * self.sampling_rate_hz / 1000 + 1e-9)

    @property
    def after_samples(self) -> int:
        return math.floor(self.after_ms * self.sampling_rate_hz / 1000 + 1e-9)

    @property
    def window_samples(self) -> int:
        """Samples a window: the R peak is sample `before_samples`."""
        return self.precut_samples or self.before_samples + self.after_samples

    @property
    def n_leads(self) -> int:
        return len(self.lead_slots)

    @property
    def digest(self) -> str:
        """Twelve hex digits of the content: the feature version."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]
