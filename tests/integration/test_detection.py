"""A model fitted on simulated normal beats: what it finds, and that absent or absurd input has a defined answer."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from components import preprocessing as p
from components.autoencoder import Architecture, build_autoencoder
from components.fitting import fit as fit_autoencoder
from components.training_data import InMemory
from configs import contract
from configs.contract import FeatureSpec
from configs.errors import DataInvalidError
from configs.settings import load_settings
from pipelines.benchmark_data import Dataset, join, to_dataset
from pipelines.benchmark_protocols import fit
from warehouse.signal.simulate import SimulatedSource, simulate_cohort, simulate_recording
from warehouse.signal.windows import concatenate, cut_windows

pytestmark = pytest.mark.integration
SPEC = FeatureSpec()


@pytest.fixture(scope="module")
def windows() -> list[Dataset]:
    return [cut(source) for source in simulate_cohort(6, duration_s=240, sampling_rate_hz=360, seed=5)]


def cut(source: SimulatedSource, spec: FeatureSpec = SPEC) -> Dataset:
    found = concatenate([chunk.windows for chunk in cut_windows(source, spec, block_s=300)])
    return to_dataset(found, found.aami_class, source.header.name, np.zeros(0, "<U4"))


def simulated(duration_s: float, leads: tuple[str, ...] = ("MLII", "V1"), **trouble) -> SimulatedSource:
    return simulate_recording(name="x", duration_s=duration_s, sampling_rate_hz=360, leads=leads, seed=4, **trouble)


def part(found: dict[str, np.ndarray], name: str) -> np.ndarray:
    return found[contract.PARTS][:, contract.PART_NAMES.index(name)]


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


def test_a_recording_without_a_normal_beat_is_its_own_template_but_no_shape_of_normal_beats(fitted, windows):
    source = simulated(60, heart_rate_bpm=45, bundle_branch=True)
    beats = replace(source.beats, symbol=np.full_like(source.beats.symbol, "V"))
    data = cut(replace(source, beats=beats))
    assert data.anomalous.all()
    found, normal = answer(fitted, data), answer(fitted, windows[4])
    assert np.isfinite(found[contract.SCORE]).all()
    late = data.inputs[contract.TEMPLATE_BEATS][:, 0] >= 10
    assert late.any()  # its beats come on time, so they are its template
    assert np.median(part(found, "context")[late]) < 1
    assert np.median(part(found, "shape")) > np.median(part(normal, "shape")) + 0.02


def test_a_patient_with_one_beat_is_compared_with_normal_beats_of_everybody_alone(fitted):
    source = simulated(30)
    at_s = source.beats.time_s[10]
    span = slice(round((at_s - 0.7) * 360), round((at_s + 0.6) * 360))
    beats = replace(source.beats, time_s=np.array([0.7]), symbol=source.beats.symbol[10:11])
    header = replace(source.header, n_samples=span.stop - span.start)
    data = cut(replace(source, header=header, samples=source.samples[span], beats=beats))
    assert len(data) == 1
    assert not data.inputs[contract.RR].any()
    assert data.inputs[contract.TEMPLATE_BEATS] == 0
    found = answer(fitted, data)
    assert np.isfinite(found[contract.SCORE]).all()
    assert part(found, "context") == part(found, "timing") == 0
    assert part(found, "shape") != 0


def test_timing_across_a_gap_counts_as_usual(fitted):
    source = simulated(60, heart_rate_bpm=75)
    samples = source.samples.copy()
    samples[20 * 360 : 22 * 360] = np.nan
    data = cut(replace(source, samples=samples))
    rr = data.inputs[contract.RR]
    after = np.flatnonzero((data.r_peak_s > 22) & (rr[:, 0] == 0))
    assert len(after) == 1
    found = answer(fitted, data)
    assert part(found, "timing")[after[0] - 1] == 0  # the last before the gap: not a pause
    assert part(found, "timing")[after[0]] < 0.3  # early is unknown; only what follows can count
    assert np.isfinite(found[contract.SCORE]).all()


def test_training_that_comes_to_no_finite_loss_stops_with_what_to_do(tmp_path):
    autoencoder = build_autoencoder(Architecture(160, 2, (8,), 2), conditioned=False, name="a")
    lost = InMemory(
        {
            p.SIGNAL: np.full((64, 320), np.nan, np.float32), p.REFERENCE: np.zeros((64, 320), np.float32),
            p.MASK: np.ones((64, 2), np.float32), p.HAS_REFERENCE: np.ones((64, 1), np.float32),
            p.RHYTHM: np.zeros((64, 1), np.float32),
        }
    )  # fmt: skip

    def prepare(batch):
        return {"window": tf.reshape(batch[p.SIGNAL], (-1, 160, 2)), "mask": batch[p.MASK]}

    with pytest.raises(DataInvalidError, match=r"the loss of epoch 0 is nan.*learning_rate"):
        fit_autoencoder(
            autoencoder, prepare, lost, lost, load_settings().training, tmp_path, tf.distribute.get_strategy()
        )


TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.mark.parametrize("leads", [("II",), ("II", "V1", "V5"), TWELVE], ids=len)
def test_models_of_one_to_twelve_leads_score_with_leads_missing(leads):
    spec = FeatureSpec(lead_slots=tuple((lead.upper(),) for lead in leads))
    settings = load_settings().training.model_copy(
        update={"epochs": 4, "hidden_units": (24,), "context_hidden_units": (16,)}
    )
    ill = cut(simulated(90, leads, pvc_rate=0.2), spec)
    fitted = fit(cut(simulated(120, leads), spec), cut(simulated(60, leads, heart_rate_bpm=60), spec), spec, settings)
    whole = answer(fitted, ill)
    assert whole[contract.SAMPLE_ERROR].shape == (len(ill), spec.window_samples, len(leads))
    assert roc_auc_score(ill.anomalous, whole[contract.SCORE]) > 0.9
    for kept in range(len(leads)):  # one lead alone, whichever it is
        mask = np.zeros_like(ill.inputs[contract.LEAD_MASK])
        mask[:, kept] = 1
        alone = answer(fitted, ill, **{contract.LEAD_MASK: mask})
        assert np.isfinite(alone[contract.SCORE]).all()
        assert (alone[contract.LEAD] == kept).all()
        assert roc_auc_score(ill.anomalous, alone[contract.SCORE]) > 0.8
    recorded = cut(simulated(60, ("V1",) if "V1" in leads else leads[:1]), spec)  # a recording with one of the leads
    assert recorded.inputs[contract.LEAD_MASK].sum(axis=1).max() == 1
    assert np.isfinite(answer(fitted, recorded)[contract.SCORE]).all()
