"""Simulated recordings with labels: normal rhythm and realistic trouble, for demonstrations and tests without data.

Never to be mixed with real data unmarked: headers say `source_format="simulated"` and `simulated=True`.
Beat shapes come from `warehouse.signal.beat_shapes`; this module gives them rhythm, noise and lost electrodes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Final

import numpy as np

from configs.errors import ConfigurationError, SourceError
from warehouse.signal.beat_shapes import LEADS, Heart, standard_lead
from warehouse.signal.ecg import BeatAnnotations, FloatArray, RecordingHeader
from warehouse.signal.rhythm import make_rhythm
from warehouse.signal.simulated_leads import ElectrodeLoss, Simulation, simulate_leads

SIMULATOR_VERSION: Final = "1"

#: What the recordings have in turn, beside the odd premature beat that every heart has.
_TROUBLE = (
    "sinus", "pvc", "pac", "sinus", "pvc", "electrode", "fibrillation", "bundle_branch", "st_shift", "pauses", "noise",
    "inverted",
)  # fmt: skip
_COHORT_LEADS = ("MLII", "V1")


@dataclass(frozen=True)
class SimulatedSource:
    """A simulated recording, in memory; a `SignalSource`."""

    header: RecordingHeader
    samples: FloatArray = field(repr=False)
    beats: BeatAnnotations = field(repr=False)

    def read(self, start: int, stop: int) -> FloatArray:
        """Samples [start, stop), float32 (stop - start, leads) in millivolts.

        Raises:
            SourceError: there are not so many samples.
        """
        if not 0 <= start <= stop <= len(self.samples):
            raise SourceError(self.header.name, f"has {len(self.samples)} samples, [{start}, {stop}) were asked for")
        return self.samples[start:stop]

    def annotations(self) -> BeatAnnotations:
        """Every beat, with its MIT-BIH symbol."""
        return self.beats


def simulate_recording(
    *,
    name: str,
    duration_s: float,
    sampling_rate_hz: float,
    leads: Sequence[str],
    seed: int,
    heart_rate_bpm: float = 70.0,
    pvc_rate: float = 0.0,
    pac_rate: float = 0.0,
    st_shift_mv: float = 0.0,
    bundle_branch: bool = False,
    af: bool = False,
    pause_rate: float = 0.0,
    noise_mv: float = 0.015,
    mains_mv: float = 0.0,
    mains_hz: float = 50.0,
    electrode_loss: Sequence[ElectrodeLoss] = (),
    invert_leads: Sequence[str] = (),
    heart: Heart | None = None,
    sex: str = "unknown",
    age_years: int | None = None,
    start_time: datetime | None = None,
) -> SimulatedSource:
    """Simulates a recording. The same arguments give the same samples, bit for bit.

    Args:
        name: the recording's and the patient's name.
        duration_s: length in seconds.
        sampling_rate_hz: any rate from 50 Hz on.
        leads: standard leads by any of their names ("II", "MLII", "V1", "aVF", ...).
        seed: of rhythm, noise and the differences from beat to beat.
        heart_rate_bpm: mean sinus rate, or mean ventricular rate in fibrillation.
        pvc_rate: share of the beats that are premature ventricular beats (V), each with a full compensatory pause.
        pac_rate: share of the beats that are premature atrial beats (A), the pause after them not compensatory.
        st_shift_mv: height of the ST segment in upright leads; negative for depression.
        bundle_branch: left bundle branch block; its beats are labelled L.
        af: rhythm and baseline like atrial fibrillation; beats stay N, as in MIT-BIH.
        pause_rate: share of the beats that come after a sinus pause of two to four seconds.
        noise_mv: standard deviation of muscle noise.
        mains_mv: amplitude of mains hum.
        mains_hz: its frequency.
        electrode_loss: (lead, start, end) in seconds: the lead is a flat line with converter noise there.
        invert_leads: leads with swapped electrodes.
        heart: what this patient's beats look like; drawn from the seed when None.
        sex: female, male or unknown.
        age_years: of the patient.
        start_time: of the recording.

    Raises:
        ConfigurationError: a lead nobody knows, or a value out of range; says which.
    """
    rng = np.random.default_rng(seed)
    drawn = _draw_heart(rng)
    p = Simulation(
        name, float(duration_s), float(sampling_rate_hz), tuple(leads), seed, float(heart_rate_bpm), pvc_rate, pac_rate,
        st_shift_mv, bundle_branch, af, pause_rate, noise_mv, mains_mv, mains_hz, tuple(electrode_loss),
        tuple(invert_leads), heart or drawn, sex, age_years, start_time,
    )  # fmt: skip
    _check(p)
    rhythm = make_rhythm(
        rng, duration_s=p.duration_s, heart_rate_bpm=p.heart_rate_bpm, pvc_rate=p.pvc_rate, pac_rate=p.pac_rate,
        pause_rate=p.pause_rate, af=p.af, normal_symbol="L" if p.bundle_branch else "N",
    )  # fmt: skip
    n_samples = round(p.duration_s * p.sampling_rate_hz)
    samples = simulate_leads(p, rhythm, n_samples, rng)
    shown = rhythm.time_s < n_samples / p.sampling_rate_hz
    return SimulatedSource(_header(p, n_samples), samples, BeatAnnotations(rhythm.time_s[shown], rhythm.symbol[shown]))


def _check(p: Simulation) -> None:
    for lead in (*p.leads, *p.invert_leads, *(loss[0] for loss in p.electrode_loss)):
        if standard_lead(lead) is None:
            raise ConfigurationError("leads", f"the simulator knows no lead {lead!r}", f"Known: {', '.join(LEADS)}.")
    for lead in (*p.invert_leads, *(loss[0] for loss in p.electrode_loss)):
        if lead not in p.leads:
            raise ConfigurationError("leads", f"{lead!r} is to be changed but not recorded", "Add it to leads.")
    ranges = {
        "duration_s": (p.duration_s, 0, 7 * 86400),
        "sampling_rate_hz": (p.sampling_rate_hz, 50, 10000),
        "heart_rate_bpm": (p.heart_rate_bpm, 20, 250),
        "pvc_rate + pac_rate + pause_rate": (p.pvc_rate + p.pac_rate + p.pause_rate, 0, 0.45),
        "smallest of the rates": (min(p.pvc_rate, p.pac_rate, p.pause_rate), 0, 0.45),
    }
    for key, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise ConfigurationError(key, f"{value:g} is out of range", f"Give {least} to {most}.")


def _header(p: Simulation, n_samples: int) -> RecordingHeader:
    told = json.dumps({"simulator": SIMULATOR_VERSION, **asdict(p)}, sort_keys=True, default=str)
    return RecordingHeader(
        name=p.name,
        source_format="simulated",
        source_uri=f"simulated:{p.name}",
        patient_key=p.name,
        sampling_rate_hz=p.sampling_rate_hz,
        leads=p.leads,
        n_samples=n_samples,
        checksum=hashlib.sha256(told.encode()).hexdigest(),
        sex=p.sex,
        age_years=p.age_years,
        start_time=p.start_time,
        device="simulator",
        simulated=True,
    )


def _draw_heart(rng: np.random.Generator) -> Heart:
    return Heart(
        axis_deg=float(rng.uniform(15, 75)),
        amplitude=float(rng.uniform(0.75, 1.3)),
        p_mv=float(rng.uniform(0.09, 0.18)),
        qrs_mv=float(rng.uniform(0.9, 1.4)),
        t_mv=float(rng.uniform(0.2, 0.4)),
        width=float(rng.uniform(0.9, 1.12)),
    )


def simulate_cohort(
    n_recordings: int, *, duration_s: float, sampling_rate_hz: float, seed: int
) -> list[SimulatedSource]:
    """Simulates recordings sim000, sim001, ... of as many patients, in the leads MLII and V1.

    Every recording has a patient of its own (age, sex, axis, amplitudes) and some premature beats; beyond that they
    take turns in trouble: more premature ventricular or atrial beats, fibrillation, bundle branch block, ST shift,
    pauses, a lost electrode, muscle noise and hum, swapped electrodes.

    Args:
        n_recordings: how many.
        duration_s: of each, seconds.
        sampling_rate_hz: of each.
        seed: the same seed gives the same recordings; a recording does not change when more are asked for.
    """
    return [_patient(i, duration_s, sampling_rate_hz, seed) for i in range(n_recordings)]


def _patient(index: int, duration_s: float, sampling_rate_hz: float, seed: int) -> SimulatedSource:
    rng = np.random.default_rng([seed, index])
    trouble = _TROUBLE[index % len(_TROUBLE)]
    lost: list[ElectrodeLoss] = []
    if trouble == "electrode":
        start_s = float(rng.uniform(0.2, 0.6)) * duration_s
        lost = [("V1", start_s, start_s + 0.2 * duration_s), ("MLII", 0.9 * duration_s, 0.93 * duration_s)]
    return simulate_recording(
        name=f"sim{index:03d}",
        duration_s=duration_s,
        sampling_rate_hz=sampling_rate_hz,
        leads=_COHORT_LEADS,
        seed=int(rng.integers(2**31)),
        heart_rate_bpm=float(rng.uniform(85, 115) if trouble == "fibrillation" else rng.uniform(56, 92)),
        pvc_rate=float(rng.uniform(0.06, 0.14) if trouble == "pvc" else rng.uniform(0.004, 0.03)),
        pac_rate=float(rng.uniform(0.05, 0.1) if trouble == "pac" else rng.uniform(0.002, 0.015)),
        st_shift_mv=float(rng.uniform(0.12, 0.25) * rng.choice([-1, 1])) if trouble == "st_shift" else 0.0,
        bundle_branch=trouble == "bundle_branch",
        af=trouble == "fibrillation",
        pause_rate=0.01 if trouble == "pauses" else 0.0,
        noise_mv=float(rng.uniform(0.05, 0.08) if trouble == "noise" else rng.uniform(0.006, 0.025)),
        mains_mv=float(rng.uniform(0.05, 0.1) if trouble == "noise" else rng.uniform(0.0, 0.02)),
        electrode_loss=lost,
        invert_leads=(_COHORT_LEADS[0],) if trouble == "inverted" else (),
        sex=str(rng.choice(["female", "male"])),
        age_years=int(rng.integers(23, 90)),
    )
