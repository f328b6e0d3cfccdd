"""Normal windows to train on: in memory while they fit, else streamed from their files by tf.data."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components import preprocessing as p

#: Transformed features of normal windows: float32 (n, ...) each, keys of `preprocessing`.
Features = dict[str, npt.NDArray[np.float32]]
Batch = dict[str, tf.Tensor]
Prepare = Callable[[Batch], Batch]

FEATURES = (p.SIGNAL, p.REFERENCE, p.MASK, p.HAS_REFERENCE, p.RHYTHM)
STATISTICS_BATCH = 2048
_READ_BATCH = 4096
_READERS = 4  # files that are read at once


class Normals(Protocol):
    """Normal windows, to be gone through as often as it takes."""

    def __len__(self) -> int: ...

    def with_template(self) -> "Normals":
        """Those whose recording had a running template."""
        ...

    def batches(self, size: int = STATISTICS_BATCH) -> Iterator[Batch]:
        """All of them once, in order."""
        ...

    def epochs(self, prepare: Prepare, batch_size: int, epochs: int, seed: int) -> Iterator[Iterator[Batch]]:
        """Each epoch's batches, whole ones, in another order each time.

        Args:
            prepare: applied to batches of features.
        """
        ...


class InMemory:
    """Windows as arrays; a `Normals`."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features[p.MASK])

    def with_template(self) -> "InMemory":
        """See `Normals`."""
        keep = self._features[p.HAS_REFERENCE][:, 0] > 0
        return InMemory({name: values[keep] for name, values in self._features.items()})

    def batches(self, size: int = STATISTICS_BATCH) -> Iterator[Batch]:
        """See `Normals`."""
        for start in range(0, len(self), size):
            yield {name: tf.constant(values[start : start + size]) for name, values in self._features.items()}

    def epochs(self, prepare: Prepare, batch_size: int, epochs: int, seed: int) -> Iterator[Iterator[Batch]]:
        """See `Normals`."""
        parts = [prepare(batch) for batch in self.batches()]
        data = {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]} if parts else {}
        steps = steps_of(len(self), batch_size)
        order = np.random.default_rng(seed)

        @tf.function  # type: ignore[untyped-decorator,unused-ignore]
        def gather(rows: tf.Tensor) -> Batch:
            return {name: tf.gather(values, rows) for name, values in data.items()}

        for _ in range(epochs):
            rows = order.permutation(len(self))[: steps * batch_size].astype(np.int32)
            yield (gather(tf.constant(part)) for part in np.array_split(rows, steps))


class Streamed:
    """Windows in files; a `Normals` whose memory does not depend on how many there are.

    The files are parsed once, several at a time; what is left of them lies in a cache on disk from then on, and is read
    ahead of the model. An epoch's order comes from a buffer of `shuffle_windows`.

    Args:
        batches: features of normal windows, in batches of any size.
        shuffle_windows: windows the order is drawn from.
        n: windows; counted when None.
    """

    def __init__(self, batches: tf.data.Dataset, shuffle_windows: int, n: int | None = None) -> None:
        self._batches = batches
        self._shuffle_windows = shuffle_windows
        self._n = sum(len(batch[p.MASK]) for batch in batches) if n is None else n

    def __len__(self) -> int:
        return self._n

    def with_template(self) -> "Streamed":
        """See `Normals`."""

        def keep(batch: Batch) -> Batch:
            rows = batch[p.HAS_REFERENCE][:, 0] > 0
            return {name: tf.boolean_mask(values, rows) for name, values in batch.items()}

        return Streamed(self._batches.map(keep, tf.data.AUTOTUNE), self._shuffle_windows)

    def batches(self, size: int = STATISTICS_BATCH) -> Iterator[Batch]:
        """See `Normals`."""
        return iter(self._batches.rebatch(size).prefetch(1))

    def epochs(self, prepare: Prepare, batch_size: int, epochs: int, seed: int) -> Iterator[Iterator[Batch]]:
        """See `Normals`."""
        windows = self._batches.unbatch().shuffle(self._shuffle_windows, seed=seed, reshuffle_each_iteration=True)
        ready = windows.batch(batch_size).map(prepare, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        for _ in range(epochs):
            yield iter(ready.take(steps_of(self._n, batch_size)))


def steps_of(n: int, batch_size: int) -> int:
    """Batches an epoch."""
    return max(1, n // batch_size)


def read_normals(
    paths: Sequence[str], feature_spec: Mapping[str, Any], keep: Callable[[Batch], tf.Tensor], cache: Path, *,
    memory_windows: int, shuffle_windows: int,
) -> Normals:  # fmt: skip
    """Normal windows of TFRecord files: in memory up to `memory_windows`, streamed beyond.

    Args:
        paths: of gzipped TFRecords with serialized tf.Examples.
        feature_spec: of tf.io.parse_example.
        keep: which rows of a parsed batch are normal: bool (batch,).
        cache: folder for the streamed ones, of some 2.7 kB a window.
    """
    stream = _normals_of(paths, feature_spec, keep)
    parts: list[Features] = []
    n = 0
    for batch in stream:
        parts.append({name: values.numpy() for name, values in batch.items()})
        n += len(parts[-1][p.MASK])
        if n > memory_windows:
            break
    else:
        features = {name: np.concatenate([part[name] for part in parts]) for name in FEATURES} if parts else {}
        # The files' order depends on how Beam wrote them; the seed must decide alone.
        order = np.lexsort(features[p.SIGNAL][:, :8].T) if features else []
        return InMemory(
            {name: values[order] for name, values in features.items()} or {p.MASK: np.zeros((0, 1), np.float32)}
        )
    del parts
    return Streamed(stream.cache(str(cache / "windows")), shuffle_windows)


def _normals_of(
    paths: Sequence[str], feature_spec: Mapping[str, Any], keep: Callable[[Batch], tf.Tensor]
) -> tf.data.Dataset:
    def parse(records: tf.Tensor) -> Batch:
        batch = tf.io.parse_example(records, feature_spec)
        rows = keep(batch)
        return {name: tf.boolean_mask(batch[name], rows) for name in FEATURES}

    files = tf.data.Dataset.from_tensor_slices(list(paths))
    records = files.interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type="GZIP").batch(_READ_BATCH),
        cycle_length=_READERS,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return records.map(parse, tf.data.AUTOTUNE, deterministic=True).prefetch(2)
