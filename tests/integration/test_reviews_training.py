"""Reviewers' labels in what training reads."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from store_world import SPEC, add_model, add_recording, read, scored

from components.example_gen import WAREHOUSE_URL_VARIABLE, ReadBlock
from configs import contract
from warehouse.reviewer_labels import deliver_labels
from warehouse.store import Stores
from warehouse.store.records import Beat, Opinion

pytestmark = pytest.mark.integration


def test_examples_carry_what_reviewers_said(new_stores: Callable[[], Stores], monkeypatch: pytest.MonkeyPatch) -> None:
    stores = new_stores()
    run, window_set = add_model(stores, 1), add_recording(stores, "100", 6)
    stores.results.write_scores(run, 1, window_set, read(stores, window_set), scored(np.full(6, 2.0)))
    said = {1: ("confirm", "V"), 3: ("reject", "artefact")}
    for beat, (verdict, label) in said.items():
        beats = [Beat(window_set.id_range(beat, beat)[0], window_set.recording_id)]
        stores.results.add_reviews("main", beats, Opinion("ana", "reviewer", 1, verdict, label))
    deliver_labels(stores)
    span = stores.warehouse.freeze_span(SPEC.digest, 0, "replace")
    monkeypatch.setenv(WAREHOUSE_URL_VARIABLE, stores.warehouse.url)
    reader = ReadBlock(SPEC.model_dump(mode="json"), span.content["labels"])
    reader.setup()
    context = {contract.RECORDING: "100", contract.SEX: "female", contract.AGE_BAND: "40-64", contract.LEADS: "MLII,V1"}
    found = [
        tf.train.Example.FromString(example).features.feature
        for example in reader.process((context, *window_set.id_range(0, 6)))
    ]
    reader.teardown()
    assert [one[contract.AAMI_CLASS].bytes_list.value[0] for one in found] == [b"N", b"V", b"N", b"N", b"N"]
    assert [one[contract.IS_ANOMALY].int64_list.value[0] for one in found] == [0, 1, 0, 0, 0]
