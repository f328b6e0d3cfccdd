"""What the benchmark counts: matched and missed beats, ranks, presets, costs, spreads."""

import keras
import numpy as np
import pytest

from components.autoencoder import Architecture, build_autoencoder
from components.calibration import threshold_at
from configs import contract
from pipelines.benchmark import summarise
from pipelines.benchmark_data import DS1, DS1_CALIBRATION, DS2, PACED, Dataset, join, match
from pipelines.benchmark_ecg5000 import best_threshold, cross_validate_peers
from pipelines.benchmark_protocols import flops_a_window, judge

pytestmark = pytest.mark.unit


def dataset(classes, recording="100", missed=()):
    n, classes = len(classes), np.array(list(classes))
    inputs = {contract.RR: np.zeros((n, 5), np.float32)}
    return Dataset(
        inputs, classes != "N", classes, np.full(n, recording), np.arange(n, dtype=float),
        (np.full(len(missed), recording), np.array(missed, "<U4")),
    )  # fmt: skip


def test_no_patient_is_on_two_sides():
    assert len({*DS1, *DS2}) == 44
    assert not {*DS1, *DS2} & {*PACED}
    assert set(DS1_CALIBRATION) < set(DS1)


def test_found_beats_take_the_class_of_the_nearest_reference_beat_within_150_ms():
    truth_s, truth = np.array([1.0, 2.0, 3.0, 4.0]), np.array(["N", "V", "N", "S"])
    classes, missed = match(np.array([1.1, 2.14, 3.5]), truth_s, truth)
    assert classes.tolist() == ["N", "V", "N"]  # the last one is an extra beat
    assert missed.tolist() == ["N", "S"]
    classes, missed = match(np.array([0.99, 1.01]), truth_s, truth)
    assert missed.tolist() == ["V", "N", "S"]  # one reference beat, found twice


def test_beats_that_were_missed_count_against_the_detector():
    score = np.array([0.1, 0.2, 3.0, 2.5], np.float32)
    perfect = judge(dataset("NNVV"), score)
    assert perfect["roc_auc"] == 1
    assert perfect["presets"]["0.03"] == {"sensitivity": 1.0, "ppv": 1.0, "f1": 1.0, "false_alarm_rate": 0.0}
    lost_anomaly = judge(dataset("NNVV", missed=["V"]), score)
    assert lost_anomaly["presets"]["0.03"]["sensitivity"] == pytest.approx(2 / 3)
    lost_normal = judge(dataset("NNVV", missed=["N"]), score)
    assert lost_normal["presets"]["0.03"]["false_alarm_rate"] == pytest.approx(1 / 3)
    assert lost_anomaly["roc_auc"] < 1 > lost_normal["roc_auc"]


def test_each_recording_has_its_own_false_alarms():
    quiet, noisy = dataset("NNNV", "a"), dataset("NNNV", "b")
    high = threshold_at(0.01) + 0.1
    score = np.array([0, 0, 0, high, high, high, 0, high], np.float32)
    found = judge(join([quiet, noisy]), score)
    assert found["by_recording"]["a"]["false_alarm_rate"]["0.01"] == 0
    assert found["by_recording"]["b"]["false_alarm_rate"]["0.01"] == pytest.approx(2 / 3)
    assert found["recordings_within_half_and_twice"]["0.01"] == 0
    assert found["by_class"]["V"] == {"beats": 2, "roc_auc": pytest.approx(10 / 12), "sensitivity": {
        "0.01": 1.0, "0.03": 1.0, "0.05": 1.0, "0.1": 1.0}}  # fmt: skip


def test_reviews_make_false_alarms_of_a_noisy_recording_as_even_as_asked_for():
    random = np.random.default_rng(1)
    noisy, quiet = dataset("N" * 900 + "V" * 100, "a"), dataset("N" * 1000, "b")
    score = np.concatenate([random.exponential(0.8, 900), random.normal(5, 0.5, 100), random.exponential(0.1, 1000)])
    figures = judge(join([noisy, quiet]), score.astype(np.float32))["own_thresholds"]["0.05"]
    assert list(figures) == ["0", "10", "20", "30", "50"]
    assert figures["0"]["false_alarm_rate"] > 0.06
    assert 0.04 < figures["30"]["false_alarm_rate"] < 0.06
    assert figures["30"]["recordings_within_half_and_twice"] == 1.0
    assert figures["30"]["sensitivity"] > 0.95


def test_the_threshold_lies_in_the_middle_of_the_gap():
    assert best_threshold(np.array([False, False, True, True]), np.array([0.0, 1.0, 3.0, 4.0])) == 2.0
    assert best_threshold(np.array([False, False]), np.array([0.0, 1.0])) > 1.0


def test_a_threshold_of_ecg5000_is_of_windows_nobody_learnt_from(tmp_path):
    """A detector that knows by heart what it learnt gets the threshold that is right for what it has not seen."""
    random = np.random.default_rng(4)
    normal, odd = random.normal(0, 1, (120, 20)), random.normal(0, 1, (80, 20)) + 2.5
    rows = [f"{label} " + " ".join(map(str, window)) for label, group in ((1, normal), (2, odd)) for window in group]
    (tmp_path / "ODD_TRAIN.txt").write_text("\n".join(rows) + "\n")
    learnt = []

    def nearest(jobs):
        for train, test, _ in jobs:
            learnt.append(len(train))
            assert train.mean() < 0.5, "normal windows alone"
            yield {"nearest": np.array([np.square(train - window).sum(axis=1).min() for window in test])}

    found = cross_validate_peers(tmp_path, 1, nearest)["nearest"]
    assert learnt == [72] * 20  # three quarters of four fifths, four members in each of five folds
    assert found["accuracy"] > 0.97
    assert found["accuracy_left_out"] > 0.97


def test_operations_of_a_window_are_those_of_its_layers():
    dense = build_autoencoder(Architecture(160, 2, (10,), 3), conditioned=False, name="a")
    assert flops_a_window(dense) == 2 * (320 * 10 + 10 * 3 + 3 * 10 + 10 * 320)
    x = keras.Input((160, 2))
    convolution = keras.Model(x, keras.layers.Conv1D(8, 7, strides=2, padding="same")(x))
    assert flops_a_window(convolution) == 2 * 7 * 2 * 8 * 80


def test_mean_and_spread_are_over_seeds():
    runs = [{"roc_auc": 0.9, "by": {"a": 1}, "none": None}, {"roc_auc": 0.8, "by": {"a": 3}, "none": None}]
    found = summarise(runs)
    assert found["roc_auc"] == {"mean": pytest.approx(0.85), "spread": pytest.approx(0.1)}
    assert found["by"]["a"] == {"mean": 2, "spread": 2}
    assert found["none"] is None
