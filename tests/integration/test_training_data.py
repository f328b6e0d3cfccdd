"""Training on windows that do not fit into memory, in mixed precision, and on several devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import training_help as help

from components import preprocessing as p
from components.fitting import in_batches, residual_variance
from components.training_data import InMemory, Streamed

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
N = 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return help.write_files(tmp_path_factory.mktemp("training") / "normals", N)


@pytest.fixture(scope="module")
def in_memory(folder):
    return help.read(folder, folder.parent / "cache-memory", N)


@pytest.fixture(scope="module")
def streamed(folder):
    return help.read(folder, folder.parent / "cache-stream", N - 1)


@pytest.fixture(scope="module")
def model(in_memory, tmp_path_factory):
    return help.fitted(in_memory, in_memory, tmp_path_factory.mktemp("logs"))


def column(normals, name):
    return np.concatenate([batch[name].numpy() for batch in normals.batches(400)])


def test_both_ways_give_the_same_windows(in_memory, streamed):
    assert (type(in_memory), type(streamed)) == (InMemory, Streamed)
    assert len(in_memory) == len(streamed) == N
    for one in (in_memory, streamed):
        assert abs(column(one, p.SIGNAL)).max() < 2  # no anomalous one among them
    order = np.lexsort(column(streamed, p.SIGNAL)[:, :8].T)
    for name in (p.SIGNAL, p.REFERENCE, p.HAS_REFERENCE):
        np.testing.assert_array_equal(column(in_memory, name), column(streamed, name)[order])
    assert len(in_memory.with_template()) == len(streamed.with_template()) == column(in_memory, p.HAS_REFERENCE).sum()


def test_streamed_epochs_have_every_window_once_in_new_orders(streamed):
    epochs = [
        [tuple(row[:3]) for batch in batches for row in batch[p.SIGNAL].numpy()]
        for batches in streamed.epochs(lambda batch: batch, 100, 2, seed=1)
    ]
    assert [len(rows) for rows in epochs] == [1500, 1500]
    assert epochs[0] != epochs[1]
    assert set(epochs[0]) == set(epochs[1])
    again = next(streamed.epochs(lambda batch: batch, 100, 2, seed=1))
    assert [tuple(row[:3]) for batch in again for row in batch[p.SIGNAL].numpy()] == epochs[0]


def test_what_is_fitted_is_the_same_from_memory_and_from_files(in_memory, streamed, model, tmp_path):
    """Statistics of the same weights to rounding; training itself, in another order, to what another order does."""
    fitted, record = model
    np.testing.assert_allclose(residual_variance(fitted, streamed), residual_variance(fitted, in_memory), rtol=1e-4)
    other, other_record = help.fitted(streamed, streamed, tmp_path)
    assert other_record["normal_windows"] == record["normal_windows"] == {"train": N, "calibration": N}
    raw = [in_batches(tf.function(one.raw_measure), in_memory) for one in (fitted, other)]
    assert np.corrcoef(*raw)[0, 1] > 0.95


def test_memory_does_not_grow_with_the_data(folder, tmp_path):
    """The peak of a process that trains on 60,000 windows, and on 18,000, which is more than its buffers hold.

    In memory, 42,000 more would take some 450 MB more.
    """
    peaks = {}
    for n in (18_000, 60_000):
        place = tmp_path / str(n)
        help.write_files(place / "large", n, distinct=300)
        (place / "small").symlink_to(folder)
        # malloc keeps room for each of many threads, more the longer it runs: that would hide what the data take.
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "training_help.py", place, "1000"], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"}, check=True, timeout=500,
        )  # fmt: skip
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["windows"] == n
        peaks[n] = told["after"]
    assert peaks[60_000] - peaks[18_000] < 120, peaks


def test_mixed_precision_exports_float32(in_memory, model, tmp_path):
    mixed, _ = help.fitted(in_memory, in_memory, tmp_path, precision="mixed_bfloat16")
    assert {str(variable.dtype.name) for variable in mixed.variables} == {"float32"}
    raw = [in_batches(tf.function(one.raw_measure), in_memory) for one in (model[0], mixed)]
    assert np.corrcoef(*raw)[0, 1] > 0.95
    alone = mixed.raw_measure({k: v[:1] for k, v in next(in_memory.batches()).items()}).numpy()
    np.testing.assert_allclose(alone, raw[1][:1], atol=1e-5)


def test_two_devices_train_what_one_does(folder, tmp_path):
    """In a process of its own, where the processor counts as two devices."""
    program = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import training_help as help
normals = help.read(Path({str(folder)!r}), Path({str(tmp_path / "cache")!r}), 10**6)
weights = []
for distribute in ("none", "mirrored"):
    model, _ = help.fitted(normals, normals, Path({str(tmp_path)!r}), shift_samples=0, distribute=distribute)
    weights.append(np.concatenate([w.ravel() for ae in model.autoencoders().values() for w in ae.get_weights()]))
print(np.abs(weights[0] - weights[1]).max(), np.abs(weights[0]).max())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    difference, size = map(float, done.stdout.split()[-2:])
    assert difference < 1e-2 * size
