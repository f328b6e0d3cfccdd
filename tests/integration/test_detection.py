"""A model fitted on simulated normal beats: what it finds, and that absent or absurd input has a defined answer."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from configs import contract
from configs.contract import FeatureSpec
from configs.settings import load_settings
from pipelines.benchmark_data import Dataset, join, to_dataset
from pipelines.benchmark_protocols import fit
from warehouse.signal.simulate import simulate_cohort
from warehouse.signal.windows import concatenate, cut_windows

pytestmark = pytest.mark.integration
SPEC = FeatureSpec()


@pytest.fixture(scope="module")
def windows() -> list[Dataset]:
    found = []
    for source in simulate_cohort(6, duration_s=240, sampling_rate_hz=360, seed=5):
        cut = concatenate([chunk.windows for chunk in cut_windows(source, SPEC, block_s=300)])
        found.append(to_dataset(cut, cut.aami_class, source.header.name, np.zeros(0, "<U4")))
    return found


@pytest.fixture(scope="module")
def fitted(windows):
    settings = load_settings().training.model_copy(
        update={"epochs": 6, "hidden_units": (32,), "context_hidden_units": (16,)}
    )
    return fit(join(windows[:3]), windows[3], SPEC, settings)


def answer(fitted, data: Dataset, **changes) -> dict[str, np.ndarray]:
    n = len(data)
    inputs = {key: values.reshape(n, -1) for key, values in (dict(data.inputs) | changes).items()}
    return {key: value.numpy() for key, value in fitted.model.answer(inputs).items()}


def test_beats_of_new_patients_are_ranked(fitted, windows):
    test = join(windows[4:])
    score, _ = fitted.score(test)
    assert test.anomalous.sum() > 10
    assert roc_auc_score(test.anomalous, score) > 0.9


def test_parts_say_what_made_the_score(fitted, windows):
    test = join(windows[4:])
    found = answer(fitted, test)
    assert found[contract.PARTS].shape == (len(test), len(contract.PART_NAMES))
    raw = found[contract.PARTS].sum(axis=1)
    assert (np.diff(found[contract.SCORE][np.argsort(raw, kind="stable")]) >= -1e-5).all()  # the score ranks their sum
    shape, context, timing = (contract.PART_NAMES.index(name) for name in ("shape", "context", "timing"))
    early = test.aami_class == "S"
    assert np.median(found[contract.PARTS][early, timing]) > np.median(found[contract.PARTS][~early, timing]) + 0.5
    wide = test.aami_class == "V"
    without = answer(fitted, test, **{contract.RR: np.zeros_like(test.inputs[contract.RR])})
    assert without[contract.PARTS][:, timing].max() == 0
    assert np.median(without[contract.PARTS][wide][:, [shape, context]].sum(axis=1)) > 0.2


@pytest.mark.parametrize(
    ("name", "value"),
    [(contract.SAMPLES, 0.0), (contract.SAMPLES, np.nan), (contract.SAMPLES, 1e30), (contract.RR, np.nan),
     (contract.LEAD_MASK, 0.0), (contract.TEMPLATE, np.nan), (contract.TEMPLATE_BEATS, 0.0)],
)  # fmt: skip
def test_absurd_input_has_a_finite_score(fitted, windows, name, value):
    found = answer(fitted, windows[4], **{name: np.full_like(windows[4].inputs[name], value)})
    for output in (contract.SCORE, contract.PARTS, contract.SAMPLE_ERROR, contract.RECONSTRUCTION):
        assert np.isfinite(found[output]).all(), output


def test_without_a_template_only_the_first_autoencoder_speaks(fitted, windows):
    data = windows[4]
    absent = {contract.TEMPLATE_BEATS: np.zeros_like(data.inputs[contract.TEMPLATE_BEATS])}
    found = answer(fitted, data, **absent)
    other = answer(fitted, data, **absent, **{contract.TEMPLATE: data.inputs[contract.TEMPLATE] + 5})
    assert (found[contract.PARTS][:, contract.PART_NAMES.index("context")] == 0).all()
    assert np.array_equal(found[contract.SCORE], other[contract.SCORE])


def test_a_lead_turned_over_is_unusual_until_the_template_has_followed(fitted, windows):
    data = windows[4]
    upright = answer(fitted, data)[contract.SCORE]
    turned = {contract.SAMPLES: data.inputs[contract.SAMPLES] * np.float32([-1, 1])}
    followed = turned | {contract.TEMPLATE: data.inputs[contract.TEMPLATE] * np.float32([-1, 1])}
    normal = ~data.anomalous & (data.inputs[contract.TEMPLATE_BEATS][:, 0] > 0)
    assert np.median(answer(fitted, data, **turned)[contract.SCORE][normal]) > np.median(upright[normal]) + 0.5
    context = contract.PART_NAMES.index("context")
    before, after = (answer(fitted, data, **change)[contract.PARTS][normal, context] for change in (turned, followed))
    assert np.median(after) < np.median(before)
