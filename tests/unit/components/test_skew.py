"""Training/serving skew as TFDV measures it: what is usual between patients is none, another gain or lead is some."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import tensorflow_data_validation as tfdv

from components.schema import save_curated
from components.skew import find_skew, serving_statistics
from configs import contract
from configs.contract import FeatureSpec
from warehouse.store.records import WindowSet
from warehouse.store.window_block import WindowBlock

pytestmark = pytest.mark.unit

SPEC = FeatureSpec(before_ms=100, after_ms=100)


def recording(number, *, gain=1.0, leads=("MLII", "V1"), n=150):
    rng = np.random.default_rng(number)
    shape = (n, SPEC.window_samples, 2)
    size = gain * rng.uniform(0.8, 1.25)
    samples = (300 * size * rng.standard_normal(shape)).astype(np.int16)
    block = WindowBlock(
        window_id=np.arange(n), recorded_at_us=np.arange(n), r_peak_s=np.arange(n, dtype=float), samples=samples,
        lead_mask=np.ones((n, 2), bool), rr=rng.normal(0.8, 0.05, (n, 5)).astype(np.float32), template=samples,
        template_beats=np.full(n, 40, np.int16), quality=np.ones(n, np.float32), aami_class=np.full(n, b"U"),
    )  # fmt: skip
    start = datetime(2026, 1, 1, tzinfo=UTC)
    name = f"r{number}"
    return WindowSet(number, number, name, "train", "female", "40-64", leads, n, 0, 1.0, 0.0, 1.0, start, False), block


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    splits = {"train": range(6), "calibration": range(6, 9), "test": range(9, 12)}
    statistics = {split: serving_statistics([recording(i) for i in of]) for split, of in splits.items()}
    file = tmp_path_factory.mktemp("schema") / "schema.pbtxt"
    schema = tfdv.infer_schema(statistics["train"])
    for feature in schema.feature:
        if feature.name == contract.RECORDING:
            feature.ClearField("domain")
    tfdv.write_schema_text(schema, str(file))
    return statistics, file


def test_other_patients_are_no_skew(trained):
    found, asked = find_skew(trained[0], serving_statistics([recording(i) for i in range(20, 26)]), trained[1])
    assert found == []
    assert asked == 4  # samples, template, rr and leads


def test_another_gain_moves_the_samples_and_the_template_alone(trained):
    found, _ = find_skew(trained[0], serving_statistics([recording(i, gain=4) for i in range(20, 26)]), trained[1])
    assert {skew.feature for skew in found} == {contract.SAMPLES, contract.TEMPLATE}
    assert all(skew.distance > skew.limit >= 0.02 for skew in found)


def test_leads_that_training_did_not_have_are_skew_and_break_the_schema(trained):
    live = [recording(i, leads=("V5", "V2")) for i in range(20, 23)]
    found, _ = find_skew(trained[0], serving_statistics(live), trained[1])
    assert {skew.feature for skew in found} == {contract.LEADS}
    assert [bool(skew.problem) for skew in found] == [True, False]


def test_a_number_that_is_none_breaks_the_schema(trained):
    window_set, block = recording(20)
    rr = block.rr.copy()
    rr[:, 0] = np.nan
    schema = tfdv.load_schema_text(str(trained[1]))
    next(f for f in schema.feature if f.name == contract.RR).float_domain.disallow_nan = True
    strict = trained[1].with_name("strict.pbtxt")
    tfdv.write_schema_text(schema, str(strict))
    found, _ = find_skew(trained[0], serving_statistics([(window_set, replace(block, rr=rr))]), strict)
    assert contract.RR in {skew.feature for skew in found if skew.problem}


def test_recordings_that_are_called_by_numbers_do_not_keep_others_from_training(trained, tmp_path):
    """MIT-BIH's are, and from these alone TFDV infers that a recording's name is a number."""
    pairs = [recording(i) for i in range(3)]
    numbered = [(replace(one, recording=str(100 + one.recording_id)), block) for one, block in pairs]
    inferred = tfdv.infer_schema(serving_statistics(numbered))
    (name,) = (feature for feature in inferred.feature if feature.name == contract.RECORDING)
    assert name.HasField("int_domain")
    tfdv.write_schema_text(inferred, str(tmp_path / "inferred.pbtxt"))
    save_curated(tmp_path / "inferred.pbtxt", tmp_path / "v1" / "schema.pbtxt", SPEC)
    curated = tfdv.load_schema_text(str(tmp_path / "v1" / "schema.pbtxt"))
    anomalies = tfdv.validate_statistics(serving_statistics(pairs), curated).anomaly_info
    assert contract.RECORDING not in anomalies, anomalies
