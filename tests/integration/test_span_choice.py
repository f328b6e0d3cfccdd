"""Data spans of chosen beats, and what is asked of the warehouse to choose them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from store_world import SPEC, add_recording

from warehouse.store import Stores
from warehouse.store.records import SpanChoice

pytestmark = pytest.mark.integration


def test_a_span_of_a_choice_holds_what_was_chosen(new_stores: Callable[[], Stores]) -> None:
    warehouse = new_stores().warehouse
    stores = Stores(warehouse, None)  # type: ignore[arg-type]  # only the warehouse is asked
    chosen, whole, left_out = (add_recording(stores, name, n) for name, n in (("a", 50), ("b", 20), ("c", 30)))
    choice = SpanChoice({chosen.window_set_id: [(0, 10), (30, 35)], whole.window_set_id: [(0, 20)]}, "some of a")
    span = warehouse.freeze_span(SPEC.digest, 0, "ignore", choice)
    assert span.n_windows == 35
    assert [(e["recording"], e["n_windows"], e["labels"]) for e in span.content["window_sets"]] == [
        ("a", 15, {"N": 15}), ("b", 20, {"N": 20}),
    ]  # fmt: skip
    assert span.content["choice"] == {"words": "some of a"}
    assert warehouse.windows_used(span) == {chosen.window_set_id: 15, whole.window_set_id: 20}
    assert warehouse.freeze_span(SPEC.digest, 0, "ignore", choice).span == span.span
    every = warehouse.freeze_span(SPEC.digest)
    assert (every.n_windows, every.span == span.span) == (100, False)
    assert warehouse.windows_used(warehouse.freeze_span(SPEC.digest, 30)) == {
        one.window_set_id: 10 for one in (chosen, whole, left_out)
    }
    assert warehouse.span_losses(span) == {"beats": {}, "seconds": {"edge": 1.0}}
    assert [s["recording"] for s in warehouse.span_sources(span)] == ["a", "b"]


def test_what_a_choice_asks(new_stores: Callable[[], Stores]) -> None:
    warehouse = new_stores().warehouse
    stores = Stores(warehouse, None)  # type: ignore[arg-type]
    first, same, other = (add_recording(stores, name, n) for name, n in (("a", 40), ("b", 40), ("c", 20)))
    now = datetime.now(UTC)
    assert warehouse.ingested_since(now - timedelta(hours=1)) == {s.recording_id for s in (first, same, other)}
    assert warehouse.ingested_since(now + timedelta(hours=1)) == set()
    assert warehouse.sites() == ["main"]
    # made from the same seed: a and b hold the same samples
    assert warehouse.duplicate_share([s.window_set_id for s in (first, same, other)]) == pytest.approx(0.8)
    assert warehouse.duplicate_share([first.window_set_id, other.window_set_id]) == 0
    assert warehouse.duplicate_share([]) == 0
    label = {"window_id": first.id_range(3, 4)[0], "aami_class": "V", "artefact": False}
    warehouse.add_labels([{**label, "revision": 1}, {**label, "revision": 2}])
    until = warehouse.newest_label([first.window_set_id])
    assert (warehouse.labels_since(0), warehouse.labels_since(until)) == (1, 0)
