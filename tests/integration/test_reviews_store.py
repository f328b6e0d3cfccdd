"""Reviews on real PostgreSQL: append-only, what they come to, and how they reach training."""

from collections.abc import Callable

import numpy as np
import pytest
import sqlalchemy as sa
from store_world import SPEC, add_model, add_recording, read, scored

from configs.errors import ConflictError, NotFoundError
from warehouse.reviewer_labels import deliver_labels
from warehouse.store import Stores
from warehouse.store.records import AnomalyFilter, Beat, LabelUse, Opinion, WindowSet

pytestmark = pytest.mark.integration

SITE = "main"


@pytest.fixture
def stores(new_stores: Callable[[], Stores]) -> Stores:
    return new_stores()


@pytest.fixture
def window_set(stores: Stores) -> WindowSet:
    """Ten beats, all of them flagged with score 2."""
    run = add_model(stores, 1)
    window_set = add_recording(stores, "100", 10)
    stores.results.write_scores(run, 1, window_set, read(stores, window_set), scored(np.full(10, 2.0)))
    stores.results.summarise(1, window_set, None, gap_beats=1)
    return window_set


def beats(window_set: WindowSet, *numbers: int) -> list[Beat]:
    return [Beat(window_set.id_range(n, n)[0], window_set.recording_id, 2.0, True) for n in numbers]


def say(stores: Stores, window_set: WindowSet, who: str, verdict: str, *numbers: int, **more: object) -> list[int]:
    opinion = Opinion(who, "reviewer", 1, verdict, **more)  # type: ignore[arg-type]
    return [row["review_id"] for row in stores.results.add_reviews(SITE, beats(window_set, *numbers), opinion)]


def status(stores: Stores, window_set: WindowSet, number: int) -> str:
    window_id = window_set.id_range(number, number)[0]
    return stores.results.review_states([window_id])[window_id].status


def test_reviews_are_listed_and_counted_and_filter_anomalies(stores: Stores, window_set: WindowSet) -> None:
    say(stores, window_set, "ana", "confirm", 0, 1, 2, label="V", comment="wide")
    say(stores, window_set, "ana", "reject", 3)
    say(stores, window_set, "bo", "reject", 2)
    assert [status(stores, window_set, n) for n in range(5)] == [
        "confirmed", "confirmed", "conflict", "rejected", "unreviewed",
    ]  # fmt: skip
    assert stores.results.review_counts(1, SITE) == {"unreviewed": 6, "confirmed": 2, "conflict": 1, "rejected": 1}
    found = stores.results.anomalies(AnomalyFilter(1, review_status=("confirmed", "conflict")), sort="-score")
    assert [(row["review_status"], row["review_label"]) for row in found] == [
        ("conflict", None), ("confirmed", "V"), ("confirmed", "V"),
    ]  # fmt: skip
    assert len(stores.results.anomalies(AnomalyFilter(1, label="V"))) == 2
    assert len(stores.results.anomalies(AnomalyFilter(1, review_status=("unreviewed",)))) == 6
    newest = stores.results.reviews(SITE)[0]
    assert (newest["reviewer"], newest["verdict"], newest["undone_by"]) == ("bo", "reject", None)
    assert len(stores.results.reviews(SITE, reviewer="ana")) == 4
    assert stores.results.reviews("elsewhere") == []


def test_undo_takes_back_all_that_was_said_at_once(stores: Stores, window_set: WindowSet) -> None:
    first, _ = say(stores, window_set, "ana", "confirm", 0, 1, episode_id=7)
    undone = stores.results.undo(SITE, first, "ana", "reviewer")
    assert [row["action"] for row in undone] == ["undo", "undo"]
    assert status(stores, window_set, 0) == status(stores, window_set, 1) == "unreviewed"
    assert len(stores.results.reviews(SITE)) == 4  # nothing is deleted
    with pytest.raises(ConflictError, match="taken back already"):
        stores.results.undo(SITE, first, "ana", "reviewer")
    with pytest.raises(ConflictError, match="is an undo"):
        stores.results.undo(SITE, undone[0]["review_id"], "ana", "reviewer")
    with pytest.raises(NotFoundError):
        stores.results.undo("elsewhere", first, "ana", "reviewer")


def test_an_earlier_word_comes_back_when_the_later_is_undone(stores: Stores, window_set: WindowSet) -> None:
    (first,) = say(stores, window_set, "ana", "confirm", 0)
    (second,) = say(stores, window_set, "ana", "reject", 0)
    assert stores.results.review(SITE, second)["supersedes"] == first
    stores.results.undo(SITE, second, "ana", "reviewer")
    assert status(stores, window_set, 0) == "confirmed"


@pytest.mark.parametrize(
    "statement", ["UPDATE reviews SET verdict = 'reject'", "DELETE FROM reviews", "TRUNCATE reviews"]
)
def test_reviews_cannot_be_changed(stores: Stores, window_set: WindowSet, statement: str) -> None:
    say(stores, window_set, "ana", "confirm", 0)
    with pytest.raises(sa.exc.DBAPIError, match="only added"), stores.results.transaction() as connection:
        connection.execute(sa.text(statement))


def test_labels_reach_training_as_configured(stores: Stores, window_set: WindowSet) -> None:
    before = stores.warehouse.freeze_span(SPEC.digest, 0, "add")
    say(stores, window_set, "ana", "confirm", 0, label="V")
    say(stores, window_set, "ana", "reject", 1, label="artefact")
    say(stores, window_set, "ana", "unsure", 2)
    with stores.warehouse.transaction() as connection:  # one beat without a reference label
        first = window_set.id_range(0, 0)[0]
        connection.execute(sa.text("UPDATE windows SET aami_class = 'U' WHERE window_id = :id"), {"id": first + 3})
    (third,) = say(stores, window_set, "ana", "confirm", 3)
    assert deliver_labels(stores) == 4
    assert deliver_labels(stores) == 0

    def classes(policy: str) -> str:
        span = stores.warehouse.freeze_span(SPEC.digest, 0, policy)
        use = LabelUse(**span.content["labels"])
        block = stores.warehouse.read_labelled_block(SPEC, *window_set.id_range(0, 10), use)
        return b"".join(block.aami_class.tolist()).decode()

    assert classes("add") == "NNQ" + "N" * 6  # the artefact is gone, the unlabelled beat has its label
    assert classes("replace") == "VNQ" + "N" * 6
    assert classes("exclude") == "N" * 7
    frozen = stores.warehouse.freeze_span(SPEC.digest, 0, "replace")
    assert frozen.digest != before.digest
    assert "labels" not in stores.warehouse.freeze_span(SPEC.digest, 0, "ignore").content
    stores.results.undo(SITE, third, "ana", "reviewer")
    assert deliver_labels(stores) == 1
    assert classes("add") == "NNU" + "N" * 6
    then = stores.warehouse.read_labelled_block(SPEC, *window_set.id_range(0, 10), LabelUse(**frozen.content["labels"]))
    assert b"".join(then.aami_class.tolist()).decode() == "VNQ" + "N" * 6  # a span reads what it read
