"""Drift is found as fast as promised, and not found where there is none: trials with known sample sizes and seeds."""

import numpy as np
import pytest

from monitoring.drift_features import Key, Stream
from monitoring.drift_reference import Reference, load_reference, make_reference
from monitoring.drift_tests import DEVICE, GRADUAL, RECORDING, SUDDEN, detect

pytestmark = pytest.mark.unit

KEYS = [Key("polarity", "II"), Key("latent_1"), Key("latent_2")]
TRIALS = 1000


def stream(seed, n, *, number=1, shift=0.0, key=KEYS[0], at=0, patients_differ=0.0, device="dev", patient=None):
    """n independent windows, in which every feature has spread 1."""
    rng = np.random.default_rng(seed)
    values = {}
    for k in KEYS:
        v = rng.standard_normal(n) + patients_differ * rng.standard_normal()
        if k == key:
            v[at:] += shift
        values[k] = v
    at_us = np.arange(n) * 800_000
    who = patient or f"patient {number}"
    return Stream(number, f"r{number}", who, "main", device, np.arange(n) + (number << 24), at_us, values, {"II": 0})


def reference_of(n=1800, patients=22, **options):
    return make_reference([stream(10**6 + i, n, number=i, **options) for i in range(patients)])


@pytest.fixture(scope="module")
def alike():
    return reference_of()


@pytest.fixture(scope="module")
def patients():
    return reference_of(patients_differ=1.0)


@pytest.mark.parametrize("n", [10, 100, 1000, 100_000])
def test_the_same_distribution_raises_an_alarm_in_at_most_a_hundredth_of_the_trials(alike, n):
    alarms = sum(bool(detect(alike, [stream(trial, n)]).findings) for trial in range(TRIALS))
    assert alarms <= 0.01 * TRIALS


def test_half_a_standard_deviation_is_found_within_a_thousand_windows(alike):
    against = within = 0
    for trial in range(TRIALS):
        against += any(f.key == KEYS[0] for f in detect(alike, [stream(trial, 1000, shift=0.5)]).findings)
        within += any(f.key == KEYS[0] for f in detect(alike, [stream(trial, 2000, shift=0.5, at=1000)]).findings)
    assert against >= 0.95 * TRIALS
    assert within >= 0.95 * TRIALS


def test_a_new_patient_is_no_drift_however_many_windows_there_are_of_them(patients):
    found = [detect(patients, [stream(i, 20_000, patients_differ=1.0)]) for i in range(300)]
    assert sum(bool(d.findings) for d in found) <= 3


def test_a_device_whose_patients_all_lie_to_one_side_is(patients):
    live = [stream(i, 500, number=i, patients_differ=1.0, device="old") for i in range(20)]
    live += [stream(50 + i, 500, number=50 + i, patients_differ=1.0, device="new", shift=3.0) for i in range(12)]
    (finding,) = detect(patients, live).findings
    assert (finding.scope, finding.subject, finding.key) == (DEVICE, "new", KEYS[0])
    assert (finding.kind, finding.drift, finding.devices) == (GRADUAL, "input", ("new",))
    assert set(finding.recordings) <= set(range(50, 62))
    assert finding.after - finding.before == pytest.approx(3, abs=1.2)
    assert finding.adjusted <= 0.005


def test_recordings_of_one_patient_count_as_one(patients):
    def device(same):
        return [
            stream(i, 500, number=i, shift=2.5, device="new", patient="one" if same else None, patients_differ=0.01)
            for i in range(30)
        ]

    assert not detect(patients, device(same=True)).findings
    assert detect(patients, device(same=False)).findings


def test_a_step_within_a_recording_is_sudden_and_dated_and_a_ramp_is_gradual(alike):
    found = [f for f in detect(alike, [stream(3, 3000, shift=2.0, at=1500)]).findings if f.scope == RECORDING]
    step = next(f for f in found if f.kind == SUDDEN)
    assert step.since.timestamp() - 946684800 == pytest.approx(1500 * 0.8, abs=25 * 0.8)
    assert step.after - step.before == pytest.approx(2, abs=0.4)
    assert all((i & 0xFFFFFF) + 25 >= 1500 for i in step.examples)
    ramp = stream(4, 6000)
    ramp.values[KEYS[0]][:] += np.linspace(-1.5, 1.5, 6000)
    found = detect(alike, [ramp]).findings
    assert found
    assert all(f.kind == GRADUAL for f in found)


def test_a_device_that_changes_between_two_recordings_changes_suddenly(patients):
    live = [stream(i, 500, number=i, patients_differ=0.3, shift=4.0 if i >= 12 else 0.0) for i in range(30)]
    kinds = {f.scope: f for f in detect(patients, live).findings if f.key == KEYS[0]}
    assert kinds[DEVICE].kind == SUDDEN
    assert set(kinds[DEVICE].recordings[:18]) == set(range(12, 30))


def test_constant_features_empty_recordings_and_unknown_numbers_are_no_alarm(alike):
    constant = stream(1, 2000)
    for k in KEYS:
        constant.values[k][:] = constant.values[k].mean()
    unknown = stream(2, 500, number=2)
    for k in KEYS:
        unknown.values[k][:] = np.nan
    detection = detect(alike, [constant, unknown, stream(3, 0, number=3), stream(4, 3, number=4)])
    assert detection.findings == ()
    assert detection.gaps["too_few_windows"] == 9
    assert detect(alike, []).tests == 0
    always = [stream(i, 500, number=i) for i in range(8)]
    for s in always:
        for k in KEYS:
            s.values[k][:] = 1.0
    flat = make_reference(always)
    assert detect(flat, always[:2]).findings == ()


def test_a_reference_is_the_same_after_a_file(alike, tmp_path):
    import json

    file = tmp_path / "r.json"
    assert load_reference(file) is None
    file.write_text(json.dumps(alike.to_json()))
    read = load_reference(file)
    assert read.by_lead == alike.by_lead
    assert read.by_slot == alike.by_slot
    assert Reference.from_json(alike.to_json()).window_sets == ()


def test_a_lead_the_reference_does_not_know_is_compared_with_its_slot(alike):
    live = stream(1, 1000, shift=2.0)
    renamed = {Key(k.feature, "ECG1" if k.lead else ""): v for k, v in live.values.items()}
    other = Stream(1, "r", "p", "main", "d", live.window_id, live.recorded_at_us, renamed, {"ECG1": 0})
    assert [f.lead for f in detect(alike, [other]).findings if f.kind == GRADUAL] == ["ECG1"]
    nowhere = Stream(1, "r", "p", "main", "d", live.window_id, live.recorded_at_us, renamed, {"ECG1": 5})
    assert detect(alike, [nowhere]).gaps == {"no_reference_of_feature": 1}
