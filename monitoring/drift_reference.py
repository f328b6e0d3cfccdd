"""What windows were like when a model was trained: made once, kept with the model version, compared with ever after.

Windows of one recording resemble each other, and recordings of one patient too. So what is kept of a feature is not one
big sample but a number a patient, and how much these differ: a new patient is no drift.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from configs.errors import ModelUnavailableError
from monitoring.drift_features import FloatArray, Key, Stream, feature_of

EXTRA: Final = "assets.extra"  # of a version's folder: what travels with a SavedModel, and servers ignore
REFERENCE_FILE: Final = "drift_reference.json"  # in the version's assets.extra
FORMAT: Final = 1

BLOCK: Final = 25  # windows a block: neighbouring beats are alike, and a block's mean forgets it for the most part
SPANS: Final = (2, 6, 20)  # blocks on either side of a change: 50, 150 and 500 windows
LEAST_WINDOWS: Final = 8  # of a patient, to have a mean
LEAST_PATIENTS: Final = 5  # in a reference: fewer do not tell how patients differ
_LEAST_SCALE = 0.05  # of the largest change in a recording: features that never change must not make any change news
SHARES: Final = tuple(np.round(np.linspace(0, 1, 41), 4).tolist())


@dataclass(frozen=True)
class Jumps:
    """The largest change between neighbouring spans, as recordings of the reference have it.

    A Gumbel distribution of the maximum over `positions` positions, in units of the recording's own noise.
    """

    location: float
    scale: float
    positions: float

    def p_value(self, largest: float, positions: int) -> float:
        """Chance that a recording with so many positions has a change as large."""
        return -math.expm1(-math.exp(-(largest - self.location) / self.scale) * positions / self.positions)


@dataclass(frozen=True)
class FeatureReference:
    """What the reference knows of one feature, on its compared scale.

    Attributes:
        means: a patient.
        windows: of those patients together.
        block_variance: of the means of `BLOCK` successive windows of a recording, about the recording's own mean.
        window_sd: spread of windows within a recording.
        quantiles: at `shares` 0, 0.025, ... 1 of all windows, every patient weighing the same.
        noise: typical spread of neighbouring blocks.
        jumps: by span; spans that no recording was long enough for are missing.
    """

    means: tuple[float, ...]
    windows: int
    block_variance: float
    window_sd: float
    quantiles: tuple[float, ...]
    noise: float
    jumps: Mapping[int, Jumps]

    @property
    def mean(self) -> float:
        return float(np.mean(self.means))

    def between_sd(self, least: float) -> float:
        """Spread from patient to patient, at least `least`."""
        return max(float(np.std(self.means, ddof=1)), least)


@dataclass(frozen=True)
class Reference:
    """The reference of a model version.

    Attributes:
        by_lead: features by lead's name, where `LEAST_PATIENTS` have that lead.
        by_slot: features by input slot, of whatever leads were in it: for leads the reference does not know by name.
        window_sets: the warehouse's window sets it was made of.
        beats: typical beat a lead: quantiles 0.1, 0.5 and 0.9 in millivolts, each as long as a window.
    """

    by_lead: Mapping[Key, FeatureReference]
    by_slot: Mapping[Key, FeatureReference]
    window_sets: tuple[int, ...] = ()
    beats: Mapping[str, tuple[tuple[float, ...], ...]] | None = None

    def of(self, key: Key, slot: int | None) -> FeatureReference | None:
        """Of a feature of a lead, which is in a slot; None where the reference has nothing to compare with."""
        found = self.by_lead.get(key)
        return found if found is not None or slot is None else self.by_slot.get(Key(key.feature, f"slot {slot + 1}"))

    def to_json(self) -> dict[str, Any]:
        def rows(table: Mapping[Key, FeatureReference]) -> list[dict[str, Any]]:
            return [{"feature": key.feature, "lead": key.lead, **asdict(value)} for key, value in table.items()]

        return {
            "format": FORMAT, "by_lead": rows(self.by_lead), "by_slot": rows(self.by_slot),
            "window_sets": list(self.window_sets), "beats": dict(self.beats or {}),
        }  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Reference":
        def table(rows: Iterable[Mapping[str, Any]]) -> dict[Key, FeatureReference]:
            found = {}
            for row in rows:
                values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
                key = Key(values.pop("feature"), values.pop("lead"))
                values["jumps"] = {int(span): Jumps(**jumps) for span, jumps in row["jumps"].items()}
                found[key] = FeatureReference(**values)
            return found

        return cls(
            table(content["by_lead"]), table(content["by_slot"]), tuple(content["window_sets"]),
            {lead: tuple(map(tuple, beat)) for lead, beat in content["beats"].items()},
        )  # fmt: skip


def load_reference(file: Path) -> Reference | None:
    """The reference in a file; None where there is none: an older release trained the model.

    Raises:
        ModelUnavailableError: the file is damaged, or of a format that this release does not know.
    """
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["format"] == FORMAT:
            return Reference.from_json(content)
        problem = f"has format {content['format']}, not {FORMAT}"
    except (ValueError, KeyError, TypeError) as error:
        problem = f"is damaged ({error!r})"
    raise ModelUnavailableError(str(file), problem, "Make it anew: python -m pipelines.reference")


def make_reference(
    streams: Sequence[Stream],
    *,
    window_sets: Sequence[int] = (),
    beats: Mapping[str, tuple[tuple[float, ...], ...]] | None = None,
) -> Reference:
    """Makes a reference of recordings; features that fewer than `LEAST_PATIENTS` patients have are left out."""
    by_lead: dict[Key, list[tuple[str, FloatArray]]] = {}
    by_slot: dict[Key, list[tuple[str, FloatArray]]] = {}
    for stream in streams:
        for key, values in stream.values.items():
            known = feature_of(key.feature).compared(values[np.isfinite(values)])
            by_lead.setdefault(key, []).append((stream.patient, known))
            if key.lead in stream.slots:
                slot = Key(key.feature, f"slot {stream.slots[key.lead] + 1}")
                by_slot.setdefault(slot, []).append((stream.patient, known))
    return Reference(_summaries(by_lead), _summaries(by_slot), tuple(window_sets), beats)


def _summaries(table: Mapping[Key, list[tuple[str, FloatArray]]]) -> dict[Key, FeatureReference]:
    found = {key: _summary(recordings, feature_of(key.feature).least) for key, recordings in table.items()}
    return {key: value for key, value in found.items() if value is not None}


def _summary(recordings: Sequence[tuple[str, FloatArray]], least: float) -> FeatureReference | None:
    by_patient: dict[str, list[FloatArray]] = {}
    for patient, values in recordings:
        by_patient.setdefault(patient, []).append(values)
    joined = [np.concatenate(parts) for parts in by_patient.values()]
    joined = [values for values in joined if len(values) >= LEAST_WINDOWS]
    if len(joined) < LEAST_PATIENTS:
        return None
    blocks = [block_means(values) for _, values in recordings]
    long = [b for b in blocks if len(b) >= 2]
    noise = float(np.median([block_noise(b) for b in long])) if long else 0.0
    spread = np.mean([np.var(b, ddof=1) for b in long]) if long else np.mean([np.var(v) for v in joined]) / BLOCK
    jumps = {span: fitted for span in SPANS if (fitted := _fit_jumps(blocks, span, max(noise, least))) is not None}
    quantiles = np.mean([np.quantile(values, SHARES) for values in joined], axis=0)
    return FeatureReference(
        means=tuple(float(values.mean()) for values in joined),
        windows=sum(map(len, joined)),
        block_variance=float(spread),
        window_sd=float(np.sqrt(np.mean([values.var() for values in joined]))),
        quantiles=tuple(quantiles.tolist()),
        noise=noise,
        jumps=jumps,
    )


def block_means(values: FloatArray) -> FloatArray:
    """Means of successive `BLOCK` windows: (n // BLOCK,)."""
    n = len(values) // BLOCK
    return np.asarray(values[: n * BLOCK].reshape(n, BLOCK).mean(axis=1))


def block_noise(blocks: FloatArray) -> float:
    """Spread of block means as neighbours show it, which one jump among them does not change."""
    if len(blocks) < 2:
        return 0.0
    return float(np.median(np.abs(np.diff(blocks))) / (0.6745 * np.sqrt(2)))


def changes(blocks: FloatArray, span: int, noise: float) -> FloatArray:
    """Mean of the `span` blocks after each position minus that of those before, in units of its own noise.

    A moving sum (MOSUM: Eichinger and Kirch 2018, Bernoulli 24:526-564).

    Args:
        blocks: (b,).
        noise: spread of a block mean.

    Returns:
        (b - 2 * span + 1,): first position `span`; empty when there are too few blocks.
    """
    if len(blocks) < 2 * span:
        return np.zeros(0)
    total = np.concatenate([[0.0], np.cumsum(blocks)])
    sums = total[span:] - total[:-span]
    return np.asarray((sums[span:] - sums[:-span]) / span / (noise * np.sqrt(2 / span)))


def own_noise(blocks: FloatArray, typical: float) -> float:
    """What a recording's changes are measured in: its own noise, and what is typical, together."""
    return float(np.hypot(block_noise(blocks), typical))


def _fit_jumps(blocks: Sequence[FloatArray], span: int, noise: float) -> Jumps | None:
    enough = [b for b in blocks if len(b) >= 2 * span]
    if len(enough) < LEAST_PATIENTS:
        return None
    largest: npt.NDArray[Any] = np.array([np.abs(changes(b, span, own_noise(b, noise))).max() for b in enough])
    # By moments and by likelihood, whichever has the longer tail: few recordings tell little of it.
    scale = max(float(np.std(largest, ddof=1)) * np.sqrt(6) / np.pi, _LEAST_SCALE)
    location = float(largest.mean()) - np.euler_gamma * scale
    if np.ptp(largest) > 0:
        likely_location, likely_scale = stats.gumbel_r.fit(largest)
        if likely_scale > scale:
            location, scale = likely_location, likely_scale
    return Jumps(float(location), float(scale), float(np.mean([len(b) - 2 * span + 1 for b in enough])))
