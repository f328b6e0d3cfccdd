"""Windows for the tests of training, as Transform leaves them in files; also a program that trains on them.

    python tests/training_help.py FOLDER MEMORY_WINDOWS

prints the peak memory of this process before and after training, in MB, as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from components import preprocessing as p
from components.fitting import fit_model
from components.training_data import read_normals
from configs import contract
from configs.contract import FeatureSpec
from configs.memory import peak_memory_bytes
from configs.settings import TrainingSettings

SPEC = FeatureSpec()
WIDTH = SPEC.window_samples * SPEC.n_leads
SIZES = {p.SIGNAL: WIDTH, p.REFERENCE: WIDTH, p.MASK: SPEC.n_leads, p.HAS_REFERENCE: 1, p.RHYTHM: 0}
NORMAL = contract.IS_ANOMALY


def features(n, rhythm_width, seed=0):
    """Transformed features of n beats: bumps of many sizes, one in ten without a template."""
    random = np.random.default_rng(seed)
    at = np.arange(SPEC.window_samples)[None, :, None]
    place, width = random.normal(70, 2, (n, 1, SPEC.n_leads)), random.uniform(3, 6, (n, 1, SPEC.n_leads))
    beat = np.exp(-(((at - place) / width) ** 2)) + random.normal(0, 0.02, (n, SPEC.window_samples, SPEC.n_leads))
    has = (random.random((n, 1)) > 0.1).astype(np.float32)
    reference = np.exp(-(((at - 70) / 4.5) ** 2)) * has[:, :, None] * np.ones((n, 1, SPEC.n_leads))
    return {
        p.SIGNAL: beat.reshape(n, -1).astype(np.float32),
        p.REFERENCE: reference.reshape(n, -1).astype(np.float32),
        p.MASK: np.ones((n, SPEC.n_leads), np.float32),
        p.HAS_REFERENCE: has,
        p.RHYTHM: np.zeros((n, rhythm_width), np.float32),
    }


def rhythm_width():
    example = {name: tf.zeros((1, size)) for name, size in raw_sizes().items()}
    return int(p.transform(example, SPEC, tf.ones(SPEC.n_leads))[p.RHYTHM].shape[1])


def raw_sizes():
    return {
        contract.SAMPLES: WIDTH, contract.LEAD_MASK: SPEC.n_leads, contract.RR: len(contract.RR_COLUMNS),
        contract.TEMPLATE: WIDTH, contract.TEMPLATE_BEATS: 1,
    }  # fmt: skip


def write_files(folder, n, distinct=None, shards=3):
    """n normal windows in files, of which `distinct` differ, and among them one anomalous for ten normal ones."""
    folder.mkdir(parents=True)
    each, options = n // shards, tf.io.TFRecordOptions("GZIP", compression_level=1)
    for shard in range(shards):
        records = serialized(features(min(distinct or each, each), rhythm_width(), seed=shard))
        with tf.io.TFRecordWriter(str(folder / f"part-{shard}.gz"), options) as out:
            for i in range(each):
                for record in records[i % len(records)]:
                    out.write(record)
    return folder


def serialized(block):
    """For each window, its Example; for one in ten an anomalous one, too."""
    records = []
    for i in range(len(block[p.MASK])):
        records.append([])
        for is_anomaly in (0, 1) if i % 10 == 0 else (0,):
            lists = {k: tf.train.FloatList(value=v[i] + 5 * is_anomaly) for k, v in block.items()}
            feature = {k: tf.train.Feature(float_list=v) for k, v in lists.items()}
            feature[NORMAL] = tf.train.Feature(int64_list=tf.train.Int64List(value=[is_anomaly]))
            records[-1].append(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return records


def read(folder, cache, memory_windows, shuffle_windows=2048):
    cache.mkdir(parents=True)
    sizes = {**SIZES, p.RHYTHM: rhythm_width()}
    spec = {name: tf.io.FixedLenFeature([size], tf.float32) for name, size in sizes.items()}
    spec[NORMAL] = tf.io.FixedLenFeature([], tf.int64)
    return read_normals(
        sorted(map(str, folder.glob("*.gz"))), spec, lambda batch: tf.equal(batch[NORMAL], 0), cache,
        memory_windows=memory_windows, shuffle_windows=shuffle_windows,
    )  # fmt: skip


def fitted(train, held_out, logs, **settings):
    def transform(inputs):
        return p.transform(inputs, SPEC, tf.ones(SPEC.n_leads))

    chosen = TrainingSettings(**{"epochs": 2, "batch_size": 128, **settings})
    return fit_model(train, held_out, transform, SPEC, chosen, logs)


def peak_mb():
    return peak_memory_bytes() / 2**20


if __name__ == "__main__":
    folder, memory_windows = Path(sys.argv[1]), int(sys.argv[2])
    small = read(folder / "small", folder / "cache" / "small", 10**6)
    fitted(small, small, folder / "logs", epochs=1)  # what TensorFlow needs for itself
    before = peak_mb()
    large = read(folder / "large", folder / "cache" / "large", memory_windows)
    model, record = fitted(large, small, folder / "logs", epochs=1, batch_size=512)
    print(json.dumps({"before": before, "after": peak_mb(), "windows": record["normal_windows"]["train"]}))
