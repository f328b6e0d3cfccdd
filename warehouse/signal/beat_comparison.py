"""Beat-by-beat comparison of a detector's beats with reference beats (ANSI/AAMI EC57:2012, 4.3).

Pairs beats as the standard's comparator does (PhysioNet's `bxb`, which a test checks it against), and counts what the
detector said of each reference beat. What this platform says of a beat is whether it is unusual, not which kind it is;
`Counts` says what sensitivity and positive predictivity of a kind mean then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LEARNING_S = 300.0  # the first five minutes are not compared
MATCH_S = 0.150

#: MIT-BIH beat symbols to the standard's classes. Escape beats (e, j, n) are supraventricular ectopic beats here, as in
#: the standard's text; the platform's own training classes follow de Chazal 2004, who takes e and j as normal.
EC57_OF_SYMBOL = {
    **dict.fromkeys("NLRB", "N"),
    **dict.fromkeys("AaJSejn", "S"),
    **dict.fromkeys("VEr", "V"),
    "F": "F",
    **dict.fromkeys("/fQ?", "Q"),
}
CLASSES = "NSVFQ"
EXTRA = "O"  # in the place of a reference beat: there is none
#: What the detector said: normal, flagged, or found without a verdict; MISSED: it did not find the beat.
NORMAL, FLAGGED, NO_VERDICT, MISSED = "n", "f", "q", "o"

_FAR = 1 << 62  # after every beat

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Beats:
    """Beats in time order: sample numbers int64 (n,), and a label each."""

    sample: Times
    label: Sequence[str]

    def at(self, i: int) -> int:
        """Sample of beat i; far away beyond the last."""
        return int(self.sample[i]) if i < len(self.sample) else _FAR


@dataclass(frozen=True)
class Counts:
    """How many reference beats of each class (or `EXTRA`) the detector said what of: `pairs[class, said]`."""

    pairs: dict[tuple[str, str], int]

    @classmethod
    def total(cls, parts: Sequence["Counts"]) -> "Counts":
        """All of them together: for gross statistics."""
        pairs: dict[tuple[str, str], int] = {}
        for part in parts:
            for key, n in part.pairs.items():
                pairs[key] = pairs.get(key, 0) + n
        return cls(pairs)

    def of(self, classes: str, said: str) -> int:
        return sum(self.pairs.get((a, b), 0) for a in classes for b in said)

    def statistics(self) -> dict[str, float | None]:
        """Sensitivities and positive predictivities, 0 to 1; None where there is nothing to divide by.

        - qrs: beats found, whatever was said of them.
        - veb, sveb: sensitivity is the share of reference V (S) beats that were found and flagged; positive
          predictivity the share of flags on them among these flags and those on normal beats or on none. A flag on
          another kind of ectopic beat is no mistake of a detector that does not name kinds: it counts as neither.
        - veb_named, sveb_named: positive predictivity as if each flag had named the kind, exactly as the standard has
          it; for comparison with detectors that do.
        - flags: sensitivity is the share of S, V, F and Q beats that were found and flagged; positive predictivity the
          share of flags that are on such beats.
        """
        found, said = NORMAL + FLAGGED + NO_VERDICT, NORMAL + FLAGGED + NO_VERDICT + MISSED
        matched = self.of(CLASSES, found)
        values = {
            "qrs_sensitivity": (matched, self.of(CLASSES, said)),
            "qrs_positive_predictivity": (matched, matched + self.of(EXTRA, found)),
        }
        false = self.of("N" + EXTRA, FLAGGED)
        named = {
            "V": "NS" + EXTRA,
            "S": "NVF" + EXTRA,
        }  # of flags on F and Q the standard counts only F, and for S only
        for kind, name in (("V", "veb"), ("S", "sveb")):
            hit = self.of(kind, FLAGGED)
            values[f"{name}_sensitivity"] = (hit, self.of(kind, said))
            values[f"{name}_positive_predictivity"] = (hit, hit + false)
            values[f"{name}_named_positive_predictivity"] = (hit, hit + self.of(named[kind], FLAGGED))
        hit = self.of("SVFQ", FLAGGED)
        values["flags_sensitivity"] = (hit, self.of("SVFQ", said))
        values["flags_positive_predictivity"] = (hit, hit + false)
        return {name: n / of if of else None for name, (n, of) in values.items()}

    def as_json(self) -> dict[str, Any]:
        """Counts by class and what was said, then the statistics."""
        said = (NORMAL, FLAGGED, NO_VERDICT, MISSED)
        return {
            "counts": {a: {b: self.pairs.get((a, b), 0) for b in said} for a in CLASSES + EXTRA},
            **self.statistics(),
        }


def compare(
    reference: Beats,
    test: Beats,
    *,
    sampling_rate_hz: float,
    end: int,
    fibrillation: Sequence[tuple[int, int]] = (),
) -> Counts:
    """Pairs reference and test beats, one to one and within the match window, from the learning period's end on.

    Of two candidates the nearer one is taken, unless it fits its own other neighbour better.

    Args:
        reference: labels are classes.
        test: labels are what the detector said.
        sampling_rate_hz: of the sample numbers.
        end: samples of the record.
        fibrillation: [first, last] samples of ventricular flutter or fibrillation: reference beats there do not count,
            nor do test beats that match none.
    """
    inside = np.zeros(len(reference.sample), bool)
    for first, last in fibrillation:
        inside |= (reference.sample >= first) & (reference.sample <= last)
    keep = np.flatnonzero(~inside)
    reference = Beats(reference.sample[keep], [reference.label[i] for i in keep])
    window, start = int(MATCH_S * sampling_rate_hz), round(LEARNING_S * sampling_rate_hz)
    pairs: dict[tuple[str, str], int] = {}

    def count(reference_label: str, test_label: str) -> None:
        pairs[reference_label, test_label] = pairs.get((reference_label, test_label), 0) + 1

    i, j = int(np.searchsorted(reference.sample, start)), int(np.searchsorted(test.sample, start))
    if j and _takes(reference.at(i), test.at(j - 1), test.at(j), window):  # found just before the learning period ended
        count(reference.label[i], test.label[j - 1])
        i += 1
    elif test.at(j) - start <= window and abs(reference.at(i) - test.at(j + 1)) < abs(reference.at(i) - test.at(j)):
        j += 1  # of a beat before the period: not counted
    while reference.at(i) <= end or test.at(j) <= end:
        ref, ref_next, found, found_next = reference.at(i), reference.at(i + 1), test.at(j), test.at(j + 1)
        early, late, late_next, early_next = (
            (found, ref, ref_next, found_next) if found < ref else (ref, found, found_next, ref_next)
        )
        # The earlier beat is paired unless the one after it is nearer to the later beat and has none nearer itself.
        nearer = late - early < abs(late - early_next) or abs(late_next - early_next) < abs(late - early_next)
        if late - early <= window and nearer:
            count(reference.label[i], test.label[j])
            i, j = i + 1, j + 1
        elif found < ref:
            if not any(first <= found <= last for first, last in fibrillation):
                count(EXTRA, test.label[j])
            j += 1
        else:
            count(reference.label[i], MISSED)
            i += 1
    return Counts(pairs)


def _takes(ref: int, found: int, found_next: int, window: int) -> bool:
    return ref - found < abs(ref - found_next) and ref - found <= window


def average(parts: Sequence[Counts]) -> dict[str, float | None]:
    """Mean of each statistic over the records that have it: for average statistics."""
    rows = [part.statistics() for part in parts]
    values = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return {
        name: float(np.mean(known)) if (known := [v for v in of if v is not None]) else None
        for name, of in values.items()
    }
