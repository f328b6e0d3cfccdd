"""What several people's reviews of one beat come to."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

CONFIRM: Final = "confirm"  # it is anomalous
REJECT: Final = "reject"  # it is normal, or no beat at all
UNSURE: Final = "unsure"  # a second reader is asked for
VERDICTS: Final = (CONFIRM, REJECT, UNSURE)

ARTEFACT: Final = "artefact"
#: Labels that go with a verdict: AAMI classes of anomalous beats; normal, or no beat.
LABELS_OF: Final = {CONFIRM: ("S", "V", "F", "Q"), REJECT: ("N", ARTEFACT), UNSURE: ()}
REVIEW_LABELS: Final = ("N", "S", "V", "F", "Q", ARTEFACT)

CAUSES: Final = (
    "noise",
    "lead_off",
    "movement",
    "baseline_wander",
    "mains",
    "saturation",
    "pacing",
    "misplaced_r_peak",
    "ectopy",
    "conduction",
    "rate",
    "other",
)

UNREVIEWED, CONFIRMED, REJECTED, CONFLICT, SETTLED = "unreviewed", "confirmed", "rejected", "conflict", "settled"
STATUSES: Final = (UNREVIEWED, CONFIRMED, REJECTED, UNSURE, CONFLICT, SETTLED)

ADMIN: Final = "admin"


@dataclass(frozen=True)
class Said:
    """One review of a beat that was not taken back."""

    review_id: int
    reviewer: str
    role: str
    verdict: str
    label: str | None = None
    cause: str | None = None


@dataclass(frozen=True)
class ReviewState:
    """What reviews come to.

    Attributes:
        status: one of `STATUSES`.
        verdict: confirm or reject; None while open.
        label: one of `REVIEW_LABELS`; None while open, or when nobody gave one.
        cause: one of `CAUSES`, or None.
        reviewers: whose word counts, in the order of their last word.
    """

    status: str = UNREVIEWED
    verdict: str | None = None
    label: str | None = None
    cause: str | None = None
    reviewers: tuple[str, ...] = ()

    def training_label(self) -> tuple[str | None, bool]:
        """(AAMI class, artefact): (None, False) while open; confirmed without a class is Q, a beat of unknown class."""
        if self.verdict is None:
            return None, False
        if self.label == ARTEFACT:
            return None, True
        return self.label or ("Q" if self.verdict == CONFIRM else "N"), False


def state_of(said: Iterable[Said]) -> ReviewState:
    """What the reviews of one beat, in order, come to.

    The last word of each reviewer counts. Reviewers who disagree, on the verdict or on the class, are in conflict
    until one of them gives in, or somebody settles it: a reviewer who was not part of it, or an admin. What is settled
    stays so; only an admin, or whoever settled it, can change it.
    """
    opinions: dict[str, Said] = {}
    settled: Said | None = None
    for one in said:
        in_conflict = _disagree(opinions.values())
        others_disagree = _disagree(other for name, other in opinions.items() if name != one.reviewer)
        opinions.pop(one.reviewer, None)
        opinions[one.reviewer] = one
        if settled is not None and one.reviewer == settled.reviewer:
            settled = None
        is_admin = one.role == ADMIN
        may_settle = others_disagree or (is_admin and in_conflict)
        if one.verdict != UNSURE and may_settle and (settled is None or is_admin):
            settled = one
    return _summed_up(opinions, settled)


def _summed_up(opinions: dict[str, Said], settled: Said | None) -> ReviewState:
    reviewers = tuple(opinions)
    decided = [one for one in opinions.values() if one.verdict != UNSURE]
    if not decided:
        return ReviewState(UNSURE if opinions else UNREVIEWED, reviewers=reviewers)
    if not _disagree(decided):
        status = CONFIRMED if decided[0].verdict == CONFIRM else REJECTED
        label = next((one.label for one in reversed(decided) if one.label), None)
        cause = next((one.cause for one in reversed(decided) if one.cause), None)
        return ReviewState(status, decided[0].verdict, label, cause, reviewers)
    if settled is None:
        return ReviewState(CONFLICT, reviewers=reviewers)
    return ReviewState(SETTLED, settled.verdict, settled.label, settled.cause, reviewers)


def _disagree(opinions: Iterable[Said]) -> bool:
    decided = [one for one in opinions if one.verdict != UNSURE]
    return len({one.verdict for one in decided}) > 1 or len({one.label for one in decided if one.label}) > 1
