"""Windows for the benchmark: the reference sets, cut by the platform's own code, also from disturbed recordings."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from configs import contract
from configs.contract import FeatureSpec
from configs.errors import ConfigurationError
from warehouse.signal.ecg import (
    AamiClass,
    BeatAnnotations,
    FloatArray,
    RecordingHeader,
    SignalSource,
    TimeArray,
    Windows,
)
from warehouse.signal.readers import find_sources, open_source
from warehouse.signal.windows import concatenate, cut_windows

#: Inter-patient split of the MIT-BIH records without pacemakers (de Chazal 2004, IEEE TBME 51:1196-1206).
DS1 = (101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122, 124, 201, 203, 205, 207, 208, 209, 215, 220, 223, 230)
DS2 = (100, 103, 105, 111, 113, 117, 121, 123, 200, 202, 210, 212, 213, 214, 219, 221, 222, 228, 231, 232, 233, 234)
PACED = (102, 104, 107, 217)
#: DS1 patients that thresholds are calibrated on: every sixth.
DS1_CALIBRATION = DS1[3::6]
BLOCK_S = 900.0
MATCH_S = 0.150  # EC57: a detected beat is a reference beat's when it is this near


@dataclass(frozen=True)
class Dataset:
    """n windows with what the benchmark must know of them.

    Attributes:
        inputs: raw model inputs, keys of `contract.MODEL_INPUTS`, float32 (n, ...).
        anomalous: bool (n,).
        aami_class: str (n,).
        recording: str (n,).
        r_peak_s: float64 (n,).
        missed: reference beats that gave no window: recording and class of each, (m,) each.
    """

    inputs: Mapping[str, FloatArray]
    anomalous: npt.NDArray[np.bool_]
    aami_class: npt.NDArray[np.str_]
    recording: npt.NDArray[np.str_]
    r_peak_s: TimeArray
    missed: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]]

    def __len__(self) -> int:
        return len(self.anomalous)

    def take(self, rows: npt.NDArray[np.bool_]) -> "Dataset":
        """The windows where `rows` (n,) is true."""
        named = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("inputs", "missed")}
        return Dataset(inputs={k: v[rows] for k, v in self.inputs.items()}, missed=self.missed, **named)


@dataclass(frozen=True)
class ArraySource:
    """A recording in memory."""

    header: RecordingHeader
    samples: FloatArray
    beats: BeatAnnotations | None

    def read(self, start: int, stop: int) -> FloatArray:
        return self.samples[start:stop]

    def annotations(self) -> BeatAnnotations | None:
        return self.beats


Disturbance = Callable[[ArraySource], ArraySource]


def load_mitdb(
    folder: Path,
    records: Sequence[int],
    spec: FeatureSpec,
    *,
    detector: str | None = None,
    disturbance: str = "none",
) -> Dataset:
    """Cuts MIT-BIH records into labelled windows.

    Args:
        detector: find R peaks by it, and take the label of the reference beat within 150 ms (a window without one is
            an extra beat: labelled normal); None takes the annotations' R peaks.
        disturbance: a key of `DISTURBANCES`.

    Raises:
        ConfigurationError: a record is not there.
    """
    sources, failures = find_sources([str(folder / str(record)) for record in records])
    if failures or len(sources) < len(records):
        raise ConfigurationError(
            str(folder),
            f"lacks MIT-BIH records: {failures[0] if failures else records}",
            "Give the folder with --data.",
        )
    jobs = [(str(folder / str(record)), spec, detector, disturbance) for record in records]
    with ProcessPoolExecutor() as pool:
        return join(list(pool.map(_cut, jobs)))


def _cut(job: tuple[str, FeatureSpec, str | None, str]) -> Dataset:
    path, spec, detector, disturbance = job
    (reference,), _ = find_sources([path])
    source: SignalSource = open_source(reference)
    if disturbance != "none":
        header = source.header
        whole = ArraySource(header, np.asarray(source.read(0, header.n_samples)), source.annotations())
        source = DISTURBANCES[disturbance](whole)
    chunks = list(
        cut_windows(source, spec, block_s=BLOCK_S, detector=detector or "neurokit", use_annotations=detector is None)
    )
    windows = concatenate([chunk.windows for chunk in chunks])
    classes, missed = windows.aami_class, np.zeros(0, "<U4")
    if detector is not None:
        truth = concatenate([c.windows for c in cut_windows(source, spec, block_s=BLOCK_S)])
        classes, missed = match(windows.r_peak_s, truth.r_peak_s, truth.aami_class)
    return to_dataset(windows, classes, Path(path).name, missed)


def match(
    found_s: TimeArray, truth_s: TimeArray, truth_class: npt.NDArray[np.str_]
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]]:
    """Class of each found beat (of the nearest reference beat within 150 ms, else N), and of each that was missed."""
    nearest = np.clip(np.searchsorted(truth_s, found_s), 1, max(len(truth_s) - 1, 1))
    nearest -= np.abs(truth_s[nearest - 1] - found_s) < np.abs(truth_s[nearest] - found_s)
    hit = np.abs(truth_s[nearest] - found_s) <= MATCH_S
    classes = np.where(hit, truth_class[nearest], AamiClass.NORMAL.value)
    return classes, np.delete(truth_class, np.unique(nearest[hit]))


def to_dataset(windows: Windows, classes: npt.NDArray[np.str_], name: str, missed: npt.NDArray[np.str_]) -> Dataset:
    """Windows of one recording as a data set."""
    mv = np.float32(contract.MV_PER_COUNT)
    return Dataset(
        inputs={
            contract.SAMPLES: windows.samples.astype(np.float32) * mv,
            contract.LEAD_MASK: windows.lead_mask.astype(np.float32),
            contract.RR: windows.rr.astype(np.float32),
            contract.TEMPLATE: windows.template.astype(np.float32) * mv,
            contract.TEMPLATE_BEATS: windows.template_beats.astype(np.float32)[:, None],
        },
        anomalous=classes != "N",
        aami_class=classes,
        recording=np.full(len(classes), name),
        r_peak_s=windows.r_peak_s,
        missed=(np.full(len(missed), name), missed),
    )


def join(parts: Sequence[Dataset]) -> Dataset:
    """Several data sets as one; at least one."""
    named = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Dataset)
        if f.name not in ("inputs", "missed")
    }
    inputs = {key: np.concatenate([part.inputs[key] for part in parts]) for key in parts[0].inputs}
    missed = (np.concatenate([p.missed[0] for p in parts]), np.concatenate([p.missed[1] for p in parts]))
    return Dataset(inputs=inputs, missed=missed, **named)


# --- disturbances --------------------------------------------------------------------------------------------------


def _times(source: ArraySource) -> TimeArray:
    return np.arange(len(source.samples)) / source.header.sampling_rate_hz


def _added(source: ArraySource, mv: npt.NDArray[np.float64]) -> ArraySource:
    return replace(source, samples=(source.samples + mv[:, None]).astype(np.float32))


def _mains(source: ArraySource) -> ArraySource:
    return _added(source, 0.1 * np.sin(2 * np.pi * 60.0 * _times(source)))


def _wander(source: ArraySource) -> ArraySource:
    return _added(source, 0.5 * np.sin(2 * np.pi * 0.3 * _times(source)))


def _jitter(source: ArraySource) -> ArraySource:
    assert source.beats is not None
    random = np.random.default_rng(int(source.header.checksum[:8], 16))
    moved = source.beats.time_s + random.uniform(-0.022, 0.022, len(source.beats.time_s))
    order = np.argsort(moved, kind="stable")
    return replace(source, beats=BeatAnnotations(np.maximum(moved[order], 0), source.beats.symbol[order]))


def _gain(factor: float) -> Disturbance:
    return lambda source: replace(source, samples=(source.samples * factor).astype(np.float32))


def _only(lead: int) -> Disturbance:
    def keep(source: ArraySource) -> ArraySource:
        header = replace(source.header, leads=(source.header.leads[lead],))
        return replace(source, header=header, samples=source.samples[:, [lead]])

    return keep


def _at_rate(rate_hz: int) -> Disturbance:
    def resampled(source: ArraySource) -> ArraySource:
        samples = resample_poly(np.nan_to_num(source.samples), rate_hz, round(source.header.sampling_rate_hz))
        header = replace(source.header, sampling_rate_hz=float(rate_hz), n_samples=len(samples))
        return replace(source, header=header, samples=samples.astype(np.float32))

    return resampled


DISTURBANCES: Mapping[str, Disturbance] = {
    "R peaks off by up to 22 ms": _jitter,
    "60 Hz mains, 0.1 mV": _mains,
    "baseline wander, 0.5 mV at 0.3 Hz": _wander,
    "gain x0.5": _gain(0.5),
    "gain x2": _gain(2.0),
    "first lead alone": _only(0),
    "second lead alone": _only(1),
    "input at 250 Hz": _at_rate(250),
    "input at 500 Hz": _at_rate(500),
}
