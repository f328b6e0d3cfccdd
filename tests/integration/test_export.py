"""Exports of a small model: each agrees with the SavedModel or is refused, and the example reads them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ecg_files import write_csv
from release_world import ReleaseWorld
from saved_models import SPEC, random_block

from configs import contract
from configs.errors import DataInvalidError, ModelUnavailableError
from serving.export import Exported, _judge, export
from serving.model_client import Scores
from serving.tflite import freeze, low_rank

pytestmark = pytest.mark.integration
EXAMPLE = Path(__file__).parents[2] / "examples" / "edge" / "score_ecg.py"


@pytest.fixture(scope="module")
def world(new_stores, tmp_path_factory):
    made = ReleaseWorld(new_stores(), tmp_path_factory.mktemp("export") / "data")
    made.push(1, scale=0.08)
    for i in range(4):
        made.add(f"rec {i}", 120, label="NV"[i % 2])
    return made


def model_of(world):
    return world.stores.results.models(1)[0]


def run(world, names, out, **options):
    values = {"margin": 0.01, "windows": 200, "epochs": 2, **options}
    return {row.name: row for row in export(world.settings, world.stores, model_of(world), names, out, **values)}


@pytest.fixture
def splits(world):
    """Recordings of the store's tests are all in the test split: one is moved, so that there is something to learn."""
    import sqlalchemy as sa

    with world.stores.warehouse.transaction() as connection:
        connection.execute(sa.text("UPDATE patients SET split = 'train' WHERE patient_id % 2 = 0"))


def test_each_kind_agrees_with_the_saved_model_and_is_in_the_card(world, splits, tmp_path):
    rows = run(world, ["float32", "float16", "dynamic", "int8", "onnx"], tmp_path / "out")
    assert rows.pop("int8").refused == "it has no operation with an int8 form", "this test's model is arithmetic alone"
    for name in ("float32", "onnx"):
        assert rows[name].max_difference < 1e-4, name
    for row in rows.values():
        assert row.refused is None, row
        assert row.agreement > 0.97
        assert 0 < row.p50_ms <= row.p99_ms
        assert row.windows_per_s > 0
        assert row.flops > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "float32.tflite", "float16.tflite", "dynamic.tflite", "model.onnx", "export.json",
    }  # fmt: skip
    card = model_of(world).card["exports"]
    assert [row["name"] for row in card] == ["SavedModel", "float32", "float16", "dynamic", "int8", "onnx"]
    folder = world.settings.models_dir / "ecg_autoencoder" / "1" / "assets.extra" / "model_card.json"
    assert json.loads(folder.read_text())["exports"] == card


def test_a_student_that_learnt_nothing_or_is_too_large_is_refused(world, splits, tmp_path):
    rows = run(world, ["distilled"], tmp_path / "out")
    assert "more than a quarter of" in rows["distilled"].refused, "the teacher of this test has one weight"
    assert not list((tmp_path / "out").glob("*.tflite"))


def test_what_is_worse_by_more_than_the_margin_is_refused():
    random = np.random.default_rng(0)
    truth = (random.random(400) < 0.3).astype(int)
    score = (truth + random.normal(size=400)).astype(np.float32)
    expected = Scores(score, score > 1, np.zeros(400, np.int16))
    noisy = (score + 3 * random.normal(size=400)).astype(np.float32)
    reference, good, bad, broken = (Exported(name) for name in ("SavedModel", "good", "bad", "broken"))
    _judge(reference, expected, expected, truth, 0.01, None)
    _judge(good, Scores(score + 1e-5, score > 1, expected.lead_slot), expected, truth, 0.01, reference)
    _judge(bad, Scores(noisy, noisy > 1, expected.lead_slot), expected, truth, 0.01, reference)
    _judge(broken, Scores(score * np.nan, score > 1, expected.lead_slot), expected, truth, 0.01, reference)
    assert good.refused is None
    assert "ROC-AUC falls from" in bad.refused
    assert "400 of 400 windows get no finite score" in broken.refused


def test_without_held_out_windows_nothing_is_exported(new_stores, tmp_path):
    empty = ReleaseWorld(new_stores(), tmp_path / "data")
    directory = empty.push(1)
    with pytest.raises(DataInvalidError, match="test split: has no windows to check an export with"):
        run(empty, ["float32"], tmp_path / "out")
    (directory / "saved_model.pb").unlink()
    with pytest.raises(ModelUnavailableError, match="is not whole"):
        run(empty, ["float32"], tmp_path / "out")


def test_the_example_scores_a_recording_from_one_file(world, splits, tmp_path):
    run(world, ["float32"], tmp_path / "out")
    recording = write_csv(tmp_path / "strip.csv", seed=4)
    command = [sys.executable, str(EXAMPLE), str(recording), "--model", str(tmp_path / "out" / "float32.tflite")]
    command += ["--meta", str(tmp_path / "out" / "export.json"), "--json", str(tmp_path / "beats.json")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    beats = json.loads((tmp_path / "beats.json").read_text())
    assert len(beats) > 20
    assert all(np.isfinite(beat["score"]) and beat["anomalous"] == (beat["score"] >= 1.5) for beat in beats)
    assert f"{len(beats)} beats, " in done.stdout
    assert "warehouse" not in EXAMPLE.read_text()
    missing = subprocess.run([*command[:2], "none.csv", *command[3:]], capture_output=True, text=True, check=False)
    assert missing.stderr == "error: none.csv: does not exist\n"


def test_large_matrices_are_divided_to_a_quarter_of_the_parameters():
    random = np.random.default_rng(1)
    narrow = random.normal(size=(320, 6)) @ random.normal(size=(6, 160)) / 40
    weights = tf.constant(narrow.astype(np.float32))
    width = SPEC.window_samples * SPEC.n_leads

    def signature(**raw):
        samples = tf.reshape(raw[contract.SAMPLES], (-1, width))
        score = tf.reduce_sum(tf.square(tf.matmul(samples, weights)), axis=1)
        score += sum(0 * tf.reduce_sum(value) for value in raw.values())
        return {
            contract.SCORE: score, contract.VERDICT: tf.cast(score > 1, tf.int32),
            contract.LEAD: tf.cast(0 * score, tf.int32),
        }  # fmt: skip

    inputs = random_block(1).model_inputs()
    frozen = freeze(signature, {name: (None, *value.shape[1:]) for name, value in inputs.items()})
    small = low_rank(frozen, 0.25)
    assert small.parameters <= frozen.parameters / 4
    arguments = [tf.constant(inputs[tensor.name.split(":")[0]]) for tensor in frozen.function.inputs]
    for one, other in zip(frozen.function(*arguments), small.function(*arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    with pytest.raises(ModelUnavailableError, match="no large matrices"):
        low_rank(freeze(lambda **raw: {contract.SCORE: raw[contract.RR][:, 0]}, {contract.RR: (None, 5)}), 0.25)
