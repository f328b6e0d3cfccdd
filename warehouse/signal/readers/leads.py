"""Which signals of a file are ECG leads, what they are called, and how to turn their unit into millivolts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import SourceError
from warehouse.signal.readers.base import shown

_MV_PER_UNIT = {
    **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-6),
    **dict.fromkeys(("uv", "\N{MICRO SIGN}v", "\N{GREEK SMALL LETTER MU}v", "microvolt", "microvolts"), 1e-3),
    **dict.fromkeys(("mv", "millivolt", "millivolts"), 1.0),
    **dict.fromkeys(("v", "volt", "volts"), 1e3),
}

# Leads as PhysioNet's databases, EDF's standard texts and 12-lead carts name them.
_ECG_NAME = re.compile(
    r"""
    .*\b(ecg|ekg)\d*\b.*            # "ECG", "EKG1", "ECG chest"
    | -?av[rlf]                      # augmented limb leads
    | (ml|m)?i{1,3} | ml[1-6]        # limb and modified limb leads: II, MLII, ML2
    | (ml|mod\.?|m)?\ ?v[1-9]r?      # chest leads: V1, MV5, MLV1, mod.V1, V4R
    | v[xyz]                         # Frank leads
    | c(m|c|s|b|h|r|l)[1-7]          # bipolar exercise leads: CM5, CC5
    | d[1-4] | es | as | ai          # European ST-T, EASI
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Signals that lie beside ECG in the same files, some of them in millivolts too.
_OTHER_NAME = re.compile(
    r"""
    .*\b( resp\w* | pleth\w* | ppg | abp | nbp | ibp | bp | art | cvp | pap | uap | icp | eeg | emg | eog | spo2 | sao2
        | o2 | etco2 | co2 | airflow | flow | thor\w* | abd\w* | snor\w* | nasal | pulse | hr | temp\w* | sv | scg | pcg
        | acc\w* | gyro\w* | imp\w* | chin | leg | position | status | event\w* | marker | annotations? | labels?
        | index | battery | quality | symbol | beat\w* )\b .*
    | .*\b(fp[12z]|a[12]|[cfpot][3478z]|o[12])\b.*    # electrodes of the EEG's 10-20 system
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Lead:
    """One ECG lead of a file: its signal's number, its name, and millivolts a unit."""

    index: int
    name: str
    mv_per_unit: float


def mv_per_unit(unit: str) -> float | None:
    """Returns millivolts in one `unit`, or None when that is no voltage."""
    return _MV_PER_UNIT.get(unit.strip().casefold())


def is_ecg_name(name: str) -> bool:
    return _ECG_NAME.fullmatch(name.strip().replace("_", " ")) is not None


def is_other_name(name: str) -> bool:
    """True for signals known not to be ECG: respiration, pressure, pleth, EEG, markers."""
    return not is_ecg_name(name) and _OTHER_NAME.fullmatch(name.strip().replace("_", " ")) is not None


def lead_names(names: Sequence[str | None]) -> list[str]:
    """Returns a unique name for each signal: "EKG II" is II, a second II is II_2, one without a name is ECG1, ECG2."""
    taken: set[str] = set()
    unique = []
    for number, raw in enumerate(names, start=1):
        name = (raw or "").strip() or f"ECG{number}"
        short = re.sub(r"^(ecg|ekg|lead)[ _:-]+", "", name, flags=re.IGNORECASE)
        if is_ecg_name(short):
            name = short
        candidate, copy = name, 1
        while candidate in taken:
            copy += 1
            candidate = f"{name}_{copy}"
        taken.add(candidate)
        unique.append(candidate)
    return unique


def choose_leads(
    names: Sequence[str | None], units: Sequence[str | None], *, subject: str, only_named_ecg: bool = False
) -> list[Lead]:
    """Picks the ECG leads out of a file's signals.

    A signal in volts is a lead unless its name says otherwise (EEG, respiration); a signal in anything else is not,
    but one that is named as an ECG lead must have a unit that can be turned into millivolts.

    Args:
        names: signal names; None or "" where the file gives none.
        units: as the file writes them; None or "" where it gives none.
        subject: the file, for errors.
        only_named_ecg: when some signals are named as ECG leads, take no others.

    Returns:
        Leads in the file's order; empty when there is none.

    Raises:
        SourceError: an ECG lead has a unit that is no voltage.
    """
    leads = []
    for index, name in enumerate(lead_names(names)):
        unit = (units[index] or "").strip()
        scale = mv_per_unit(unit)
        if scale is None:
            if is_ecg_name(name):
                what = f"unknown unit '{shown(unit)}'" if unit else "no unit"
                raise SourceError(subject, f"lead {shown(name)} has {what}", "An ECG lead must be in mV, uV, nV or V.")
        elif not is_other_name(name):
            leads.append(Lead(index, name, scale))
    named = [lead for lead in leads if is_ecg_name(lead.name)]
    return named if only_named_ecg and named else leads


def no_lead_error(subject: str, names: Sequence[str | None], units: Sequence[str | None]) -> SourceError:
    """Returns the error for a file without any ECG lead, naming what it has instead."""
    found = ", ".join(f"{name or 'unnamed'} [{unit or 'no unit'}]" for name, unit in zip(names, units, strict=True))
    problem = f"has no ECG lead; its signals are: {shown(found, 400) or 'none'}"
    return SourceError(subject, problem, "At least one signal must be an ECG in mV, uV, nV or V.")
