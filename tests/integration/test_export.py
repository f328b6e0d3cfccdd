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

from components.autoencoder import Architecture, build_autoencoder
from configs import contract
from configs.errors import DataInvalidError, ModelUnavailableError
from serving.export import Exported, _judge, export
from serving.model_client import Scores
from serving.students import distil, perturbed
from serving.subgraphs import find_autoencoders
from serving.tflite import LiteModel, constant, convert, freeze, low_rank

pytestmark = pytest.mark.integration
PARTS = {"morphology": False, "context": True}  # name, and whether it knows the template
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


def test_a_version_without_autoencoders_has_no_student(world, splits, tmp_path):
    rows = run(world, ["distilled"], tmp_path / "out")
    assert rows["distilled"].refused == "has no autoencoders that can be told by their names"
    assert not list((tmp_path / "out").glob("*.tflite"))


@pytest.fixture(scope="module")
def teacher():
    """A signature that holds the platform's two autoencoders, not trained, and its inputs."""
    tf.keras.utils.set_random_seed(3)
    architecture = Architecture(SPEC.window_samples, SPEC.n_leads, (48,), 4)
    alone, beside = (build_autoencoder(architecture, conditioned=c, name=n) for n, c in PARTS.items())

    def signature(**raw):
        window, template = raw[contract.SAMPLES], raw[contract.TEMPLATE]
        errors = (tf.square(window - alone(window)), tf.square(window - beside([window, template])))
        mean = tf.fill((SPEC.window_samples * SPEC.n_leads, 1), 1 / (SPEC.window_samples * SPEC.n_leads))
        # A product of matrices that is no layer, as the model's own measure has.
        measure = sum(tf.matmul(tf.reshape(error, (-1, mean.shape[0])), mean)[:, 0] for error in errors)
        score = tf.math.log(measure + 1e-3) + sum(0 * tf.reduce_sum(value) for value in raw.values())
        by_lead = tf.reduce_sum(errors[0], axis=1)
        return {
            contract.SCORE: score, contract.VERDICT: tf.cast(score > 0, tf.int32),
            contract.LEAD: tf.argmax(by_lead, axis=1, output_type=tf.int32),
        }  # fmt: skip

    inputs = smooth_windows(600)
    return signature, inputs, {name: (None, *values.shape[1:]) for name, values in inputs.items()}


def smooth_windows(n):
    """Raw inputs of windows as smooth as a beat is."""
    random = np.random.default_rng(0)
    inputs = random_block(n).model_inputs()
    waves = np.sin(np.arange(SPEC.window_samples)[:, None] / np.array([4.0, 9.0, 20.0])).astype(np.float32)
    for name in (contract.SAMPLES, contract.TEMPLATE):
        inputs[name] = np.einsum("wk,nkl->nwl", waves, random.normal(0, 0.5, (n, 3, SPEC.n_leads))).astype(np.float32)
    return inputs


def test_students_take_the_autoencoders_places_with_a_quarter_of_the_parameters(teacher):
    signature, inputs, shapes = teacher
    function, whole = constant(signature, shapes, batch=None), freeze(signature, shapes)
    assert {part.name: (len(part.entries), part.narrowest) for part in find_autoencoders(function)} == {
        "morphology": (1, 4), "context": (2, 4),
    }  # fmt: skip
    most = whole.parameters // 4
    small, parameters = distil(function, whole.parameters, most, inputs, epochs=6, seed=1)
    frozen = freeze(small, shapes)
    assert frozen.parameters <= parameters <= most
    assert frozen.flops < whole.flops / 2
    held_out = {name: tf.constant(values) for name, values in inputs.items()}
    expected, found = signature(**held_out), tf.function(small)(**held_out)
    assert np.corrcoef(expected[contract.SCORE], found[contract.SCORE])[0, 1] > 0.98
    assert np.mean(expected[contract.LEAD] == found[contract.LEAD]) > 0.95


def test_int8_is_in_the_layers_and_nowhere_else(teacher, tmp_path):
    signature, inputs, shapes = teacher
    model = convert(freeze(signature, shapes), "int8", inputs)
    assert len(model) < 0.4 * len(convert(freeze(signature, shapes), "float32", inputs))
    (tmp_path / "int8.tflite").write_bytes(model)
    found, _ = LiteModel(tmp_path / "int8.tflite").score(inputs)
    expected = signature(**{name: tf.constant(values) for name, values in inputs.items()})
    assert np.abs(found.score - expected[contract.SCORE].numpy()).max() < 0.05


def test_perturbed_windows_are_as_many_and_as_large(teacher):
    _, inputs, _ = teacher
    changed = perturbed(inputs, np.random.default_rng(2))
    assert {name: values.shape for name, values in changed.items()} == {k: v.shape for k, v in inputs.items()}
    assert {values.dtype for values in changed.values()} == {np.dtype(np.float32)}
    assert (changed[contract.SAMPLES] != inputs[contract.SAMPLES]).any(axis=(1, 2)).mean() > 0.5
    assert np.abs(changed[contract.SAMPLES]).max() < 10, "millivolts"
    np.testing.assert_array_equal(changed[contract.RR], inputs[contract.RR])
    assert (changed[contract.LEAD_MASK] <= inputs[contract.LEAD_MASK]).all()


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
