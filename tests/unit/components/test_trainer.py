"""What the Trainer reads: normal windows, in an order of their own; and what it says when there are none."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from components import preprocessing as p
from components.trainer import load_normals, load_windows
from components.training_data import Normals
from configs import contract
from configs.errors import DataInvalidError
from configs.settings import load_settings

pytestmark = pytest.mark.unit

WIDTHS = {p.SIGNAL: 16, p.REFERENCE: 16, p.MASK: 2, p.HAS_REFERENCE: 1, p.RHYTHM: 4}
FEATURES = {name: tf.io.FixedLenFeature([width], tf.float32) for name, width in WIDTHS.items()} | {
    contract.IS_ANOMALY: tf.io.FixedLenFeature([1], tf.int64),
    contract.LABEL_WEIGHT: tf.io.FixedLenFeature([1], tf.float32),
}
TRANSFORMED = SimpleNamespace(transformed_feature_spec=lambda: FEATURES)
SETTINGS = load_settings().training.model_copy(update={"min_normal_windows": 2})


def write(path, windows: list[tuple[int, float]]) -> list[str]:
    """Windows (anomalous, weight) as a file of transformed examples; the signal of the i-th is all i."""
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for i, (anomalous, weight) in enumerate(windows):
            values = {name: [float(i)] * width for name, width in WIDTHS.items()} | {contract.LABEL_WEIGHT: [weight]}
            feature = {k: tf.train.Feature(float_list=tf.train.FloatList(value=v)) for k, v in values.items()}
            feature[contract.IS_ANOMALY] = tf.train.Feature(int64_list=tf.train.Int64List(value=[anomalous]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return [str(path)]


def signals(normals: Normals) -> list[float]:
    return [float(value) for batch in normals.batches() for value in batch[p.SIGNAL][:, 0]]


def test_normal_are_labelled_ones_and_unlabelled_ones_where_settings_say_so(tmp_path):
    files = write(tmp_path / "a.gz", [(0, 1.0), (1, 1.0), (0, 0.0), (0, 1.0)])
    assert signals(load_normals(files, TRANSFORMED, SETTINGS, "train", tmp_path / "cache")) == [0, 2, 3]
    strict = SETTINGS.model_copy(update={"treat_unlabelled_as_normal": False})
    assert signals(load_normals(files, TRANSFORMED, strict, "train", tmp_path / "strict")) == [0, 3]
    features, anomalous, labelled = load_windows(files, TRANSFORMED)
    assert set(features) == set(WIDTHS)
    assert anomalous.tolist() == [False, True, False, False]
    assert labelled.tolist() == [True, True, False, True]
    assert np.array_equal(features[p.MASK][:, 0], features[p.SIGNAL][:, 0])  # all features in one order


@pytest.mark.parametrize("windows", [[], [(1, 1.0)] * 5], ids=["no windows", "no normal beat"])
def test_a_split_without_a_normal_beat_is_refused_with_what_to_do(tmp_path, windows):
    with pytest.raises(
        DataInvalidError, match=r"train split.*has 0 normal windows, at least 2.*Ingest more recordings"
    ):
        load_normals(write(tmp_path / "a.gz", windows), TRANSFORMED, SETTINGS, "train", tmp_path / "cache")
