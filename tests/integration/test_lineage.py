"""Lineage over real PostgreSQL: what made a model, which model made a score, which models saw a patient."""

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from api_world import World, check_problem, score_two_recordings

from warehouse.store.records import WindowSet

pytestmark = pytest.mark.integration

CARD = {
    "model": {"code_digest": "c0de", "git_revision": "abc", "software": {"tensorflow": "2.16"}},
    "data": {"digest": "d1", "recordings": {"train": ["200", "n1"]}, "reviewers_labels": {"policy": "add", "until": 4}},
    "schema": {"version": 2, "sha256": "5c"},
    "configuration": {"training": {"seed": 7}},
    "baseline": 1,
    "slices": {"recording=200": {"recall": 0.5}, "recording=n1": {"recall": 0.6}, "sex=male": {"recall": 0.7}},
    "stages": [{"stage": "Trainer", "execution_id": 7, "state": "COMPLETE", "inputs": [], "outputs": []}],
}


@pytest.fixture(scope="module")
def window_set(world: World) -> WindowSet:
    """Recording 200, which version 1 has scored and version 2 was trained on."""
    version = score_two_recordings(world).model_version
    assert version == 1
    (window_set,) = world.stores.warehouse.window_sets(world.stores.results.models(1)[0].feature_version,
                                                       recordings=["200"])  # fmt: skip
    (model,) = world.stores.results.models(version)
    row = {key: value for key, value in vars(model).items() if key != "registered_at"}
    used = {"window_set_id": window_set.window_set_id, "site": "main", "pseudonym": world.patient.pseudonym,
            "recording_id": window_set.recording_id, "recording": "200", "checksum": "5a", "split": "train",
            "n_windows": 120}  # fmt: skip
    other = {**used, "window_set_id": 999, "site": "north", "recording": "n1", "recording_id": 999, "pseudonym": "x"}
    world.stores.results.register_model({**row, "model_version": 2, "card": CARD, "data_span": 3}, [used, other])
    run = world.stores.results.start_training_run(
        {"run_key": "run 2", "data_span": 3, "config": {}, "code_revision": "c0de abc"}
    )
    world.stores.results.finish_training_run(run, {"status": "pushed", "model_version": 2})
    return window_set


def test_what_made_a_model(client: httpx.Client, window_set: WindowSet, world: World) -> None:
    found = client.get("/models/2/lineage").json()
    assert [(r["recording"], r["patient"], r["split"], r["windows"], r["checksum"]) for r in found["recordings"]] == [
        ("200", world.patient.pseudonym, "train", 120, "5a")
    ]
    assert found["recordings_elsewhere"] == 1
    assert (found["data_span"], found["data_span_digest"], found["labels"]["until"]) == (3, "d1", 4)
    assert (found["schema_version"], found["schema_sha256"]) == (2, "5c")
    assert (found["code_digest"], found["git_revision"], found["baseline"]) == ("c0de", "abc", 1)
    assert found["configuration"]["training"]["seed"] == 7
    assert found["training_run"] is not None
    assert found["trained_at"].endswith("Z")
    assert [stage["stage"] for stage in found["stages"]] == ["Trainer"]
    first = client.get("/models/1/lineage").json()  # registered without lineage: nothing is made up
    assert (first["recordings"], first["training_run"], first["stages"]) == ([], None, [])
    assert first["releases"][0]["action"] == "promote"
    check_problem(client.get("/models/9/lineage"), 404, "not-found")


def test_which_model_made_a_score_and_whether_it_had_seen_the_patient(
    client: httpx.Client, window_set: WindowSet, world: World
) -> None:
    world.add_scores(2, window_set, np.full(120, 0.5, np.float32))
    window_id = window_set.id_range(7, 8)[0]
    found = client.get(f"/windows/{window_id}/scores").json()["items"]
    assert [(s["model_version"], s["score"], s["anomalous"], s["shadow"], s["patient_seen_in"]) for s in found] == [
        (2, 0.5, False, False, "train"),
        (1, pytest.approx(0.7), False, False, None),
    ]
    assert (found[0]["data_span"], found[0]["code_digest"], found[0]["threshold"]) == (3, "c0de", 1.5)
    check_problem(client.get("/windows/5/scores"), 404, "not-found")


def test_which_models_saw_a_patient(client: httpx.Client, window_set: WindowSet, world: World) -> None:
    found = client.get(f"/patients/{world.patient.pseudonym}/models").json()["items"]
    assert [(m["model_version"], m["split"], m["recordings"], m["windows"]) for m in found] == [(2, "train", 1, 120)]
    check_problem(client.get("/patients/nobody/models"), 404, "not-found")
    check_problem(client.get("/patients/x/models"), 404, "not-found")  # of another site


def test_card_and_data_sheet_to_read_name_no_recording_of_another_site(
    client: httpx.Client, window_set: WindowSet
) -> None:
    text = client.get("/models/2/card.md")
    assert text.headers["content-type"].startswith("text/markdown")
    assert "# Model card of ecg_autoencoder, version 2" in text.text
    assert "| recording=200 | 0.5 |" in text.text
    assert "n1" not in text.text
    card = client.get("/models/2").json()["card"]
    assert card["data"]["recordings"] == {"train": ["200"]}
    assert set(card["slices"]) == {"recording=200", "sex=male"}
    assert client.get("/models/2/datasheet").json()["datasheet"]["composition"]["recordings"] == 2
    assert "## composition" in client.get("/models/2/datasheet.md").text


def test_each_question_is_one_query(world: World, window_set: WindowSet) -> None:
    results, asked = world.stores.results, []
    sa.event.listen(results._engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    questions = [
        lambda: results.model_lineage(2, "main"),
        lambda: results.score_lineage(window_set.id_range(0, 1)[0], world.patient.pseudonym, "main"),
        lambda: results.models_of_patient("main", world.patient.pseudonym),
    ]
    for question in questions:
        asked.clear()
        assert question()
        assert len(asked) == 1
