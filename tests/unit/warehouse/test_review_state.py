"""What several people's reviews of one beat come to."""

import pytest

from warehouse.store.review_state import ReviewState, Said, state_of

pytestmark = pytest.mark.unit


def said(*words: str) -> list[Said]:
    """`ana:confirm/V`: reviewer, verdict and label; a reviewer in capitals is an admin."""
    found = []
    for number, word in enumerate(words, 1):
        name, _, opinion = word.partition(":")
        verdict, _, label = opinion.partition("/")
        found.append(Said(number, name.lower(), "admin" if name.isupper() else "reviewer", verdict, label or None))
    return found


@pytest.mark.parametrize(
    ("words", "status", "verdict", "label"),
    [
        ((), "unreviewed", None, None),
        (("ana:unsure",), "unsure", None, None),
        (("ana:confirm/V",), "confirmed", "confirm", "V"),
        (("ana:reject/artefact",), "rejected", "reject", "artefact"),
        (("ana:unsure", "bo:confirm"), "confirmed", "confirm", None),
        (("ana:confirm/V", "bo:confirm"), "confirmed", "confirm", "V"),  # no class is no other class
        (("ana:confirm", "ana:reject"), "rejected", "reject", None),  # the last word of each counts
        (("ana:confirm", "bo:reject"), "conflict", None, None),
        (("ana:confirm/V", "bo:confirm/S"), "conflict", None, None),
        (("ana:confirm", "bo:reject", "bo:confirm"), "confirmed", "confirm", None),  # one gives in
        (("ana:confirm", "bo:reject", "bo:unsure"), "confirmed", "confirm", None),
        (("ana:confirm", "bo:reject", "bo:reject"), "conflict", None, None),  # repeating it settles nothing
        (("ana:confirm/V", "bo:reject", "cy:confirm/S"), "settled", "confirm", "S"),  # a third settles it
        (("ana:confirm", "bo:reject", "cy:unsure"), "conflict", None, None),
        (("ana:confirm", "bo:reject", "cy:reject", "dan:confirm"), "settled", "reject", None),  # and it stays so
        (("ana:confirm", "bo:reject", "cy:reject", "CHIEF:confirm"), "settled", "confirm", None),  # but for an admin
        (("ana:confirm", "bo:reject", "cy:reject", "cy:confirm"), "settled", "confirm", None),  # or who settled it
        (("ana:confirm", "bo:reject", "cy:reject", "cy:unsure"), "conflict", None, None),
        (("ana:confirm", "CHIEF:reject"), "conflict", None, None),  # an admin is a reviewer
        (("ana:confirm", "CHIEF:reject", "CHIEF:reject"), "settled", "reject", None),  # who may settle theirs
        (("ana:confirm", "bo:reject", "cy:reject", "ana:reject"), "rejected", "reject", None),  # nobody disagrees now
    ],
)  # fmt: skip
def test_what_reviews_come_to(words: tuple[str, ...], status: str, verdict: str | None, label: str | None) -> None:
    state = state_of(said(*words))
    assert (state.status, state.verdict, state.label) == (status, verdict, label)


def test_reviewers_and_cause() -> None:
    state = state_of([Said(1, "ana", "reviewer", "reject", cause="noise"), Said(2, "bo", "reviewer", "reject")])
    assert (state.reviewers, state.cause) == (("ana", "bo"), "noise")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (ReviewState("conflict"), (None, False)),
        (ReviewState("confirmed", "confirm", "V"), ("V", False)),
        (ReviewState("confirmed", "confirm"), ("Q", False)),
        (ReviewState("rejected", "reject"), ("N", False)),
        (ReviewState("settled", "reject", "artefact"), (None, True)),
    ],
)
def test_the_label_for_training(state: ReviewState, expected: tuple[str | None, bool]) -> None:
    assert state.training_label() == expected
