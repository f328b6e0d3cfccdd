"""SQL of the signal without gaps: a minute a row, written at ingest, read for strips and overviews."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from warehouse.signal.ecg import Int16Array
from warehouse.store.binary_copy import Array, to_microseconds
from warehouse.store.connection import Repository, copy_in

CHUNK_S = 60
NO_SAMPLE = np.iinfo(np.int16).min


@dataclass(frozen=True)
class SignalChunk:
    """Part of a recording's signal, at the windows' rate.

    Attributes:
        first_sample: of the recording.
        samples: int16 (n, leads in use), microvolts; `NO_SAMPLE` where there is none.
    """

    first_sample: int
    samples: Int16Array


class SignalWriter:
    """Cuts what comes in pieces of any length into chunks of `CHUNK_S`, and writes them in the caller's transaction.

    Args:
        sampling_rate_hz: of the pieces.
        start: of the recording.
    """

    def __init__(
        self, connection: sa.Connection, window_set_id: int, start: datetime, *, sampling_rate_hz: float
    ) -> None:
        self._connection = connection
        self._window_set_id = window_set_id
        self._start_us = to_microseconds(start)
        self._rate_hz = sampling_rate_hz
        self._second = max(1, round(sampling_rate_hz))
        self._next = 0
        self._waiting: list[Int16Array] = []
        self._removed: list[Int16Array] = []

    def add(self, samples: Int16Array, removed: Int16Array | None = None) -> None:
        """Takes the samples that follow those of the last call, int16 (n, leads), and what was removed from them."""
        self._waiting.append(samples)
        if removed is not None:
            self._removed.append(removed)
        size = self._second * CHUNK_S
        if sum(map(len, self._waiting)) >= size:
            joined = np.concatenate(self._waiting)
            whole = len(joined) // size
            self._write(joined[: whole * size].reshape(whole, size, joined.shape[1]))
            self._waiting = [joined[whole * size :]]

    def close(self) -> None:
        """Writes what is left."""
        left = np.concatenate(self._waiting) if self._waiting else np.zeros((0, 1), np.int16)
        if len(left):
            self._write(left[None])
        self._waiting = []

    def _write(self, chunks: npt.NDArray[np.int16]) -> None:
        """int16 (chunks, samples, leads)."""
        n, size, leads = chunks.shape
        first = self._next + np.arange(n) * size
        envelopes = (
            envelope_of(chunks.reshape(n * size, leads), self._second)
            if size % self._second == 0
            else (np.stack([envelope_of(chunk, self._second) for chunk in chunks]))
        )
        envelopes = envelopes.reshape(n, -1)
        columns: list[tuple[str, str, Array]] = [
            ("window_set_id", "int8", np.full(n, self._window_set_id)),
            ("first_sample", "int8", first),
            ("recorded_at", "timestamptz", self._start_us + np.rint(first / self._rate_hz * 1e6).astype(np.int64)),
            ("envelope", f"bytes:{envelopes[0].nbytes}", envelopes.astype("<i2", copy=False)),
            ("samples", f"bytes:{chunks[0].nbytes}", chunks.astype("<i2", copy=False)),
        ]
        removed = self._removed_from(n, -(-size // self._second))
        if removed is not None:
            columns.append(("removed", f"bytes:{removed[0].nbytes}", removed.astype("<i2", copy=False)))
        copy_in(self._connection, "signal_chunks", columns)
        self._next += n * size

    def _removed_from(self, chunks: int, seconds: int) -> Int16Array | None:
        """Of the next chunks, int16 (chunks, seconds, leads, 2); None when it is not known."""
        if not self._removed:
            return None
        joined, wanted = np.concatenate(self._removed), chunks * seconds
        self._removed = [joined[wanted:]] if len(joined) > wanted else [joined[-1:]]
        rows = joined[np.minimum(np.arange(wanted), len(joined) - 1)]  # the last second may be a part of one
        found: Int16Array = rows.reshape(chunks, seconds, *joined.shape[1:])
        return found


def envelope_of(samples: Int16Array, every: int) -> Int16Array:
    """Least and greatest of every `every` samples (the last may be fewer): int16 (n, leads, 2).

    Where there is no sample at all, both are `NO_SAMPLE`; else only the samples that are there count.
    """
    starts = np.arange(0, len(samples), every)
    highest = np.maximum.reduceat(samples, starts, axis=0)
    lowest = np.minimum.reduceat(np.where(samples == NO_SAMPLE, np.iinfo(np.int16).max, samples), starts, axis=0)
    lowest = np.where(highest == NO_SAMPLE, NO_SAMPLE, lowest)
    both: Int16Array = np.stack([lowest, highest], axis=-1).astype(np.int16)
    return both


class SignalQueries(Repository):
    """Reading the signal."""

    def read_signal(self, window_set_id: int, first: int, stop: int, n_leads: int, chunk: int) -> list[SignalChunk]:
        """Chunks that hold samples [first, stop), in order, each cut to that span.

        Args:
            chunk: samples a chunk, at most.
        """
        query = sa.text(
            "SELECT first_sample, samples FROM signal_chunks WHERE window_set_id = :id "
            "AND first_sample > :before AND first_sample < :stop ORDER BY first_sample"
        )
        with self.transaction() as connection:
            rows = connection.execute(query, {"id": window_set_id, "before": first - chunk, "stop": stop}).all()
        found = []
        for row in rows:
            samples = np.frombuffer(row.samples, "<i2").reshape(-1, n_leads)
            low, high = max(0, first - row.first_sample), min(len(samples), stop - row.first_sample)
            if high > low:
                found.append(SignalChunk(row.first_sample + low, samples[low:high]))
        return found

    def read_envelope(self, window_set_id: int, first: int, stop: int, n_leads: int, chunk: int) -> list[SignalChunk]:
        """Envelopes, a second a row, of the chunks that hold samples [first, stop).

        Returns:
            `samples` are int16 (seconds, leads * 2): least and greatest of each lead; whole chunks.
        """
        query = sa.text(
            "SELECT first_sample, envelope FROM signal_chunks WHERE window_set_id = :id "
            "AND first_sample > :before AND first_sample < :stop ORDER BY first_sample"
        )
        with self.transaction() as connection:
            rows = connection.execute(query, {"id": window_set_id, "before": first - chunk, "stop": stop}).all()
        return [
            SignalChunk(row.first_sample, np.frombuffer(row.envelope, "<i2").reshape(-1, n_leads * 2)) for row in rows
        ]

    def read_removed(self, window_set_id: int, n_leads: int) -> dict[int, Int16Array]:
        """What the band-pass took out, int16 (seconds, leads in use, 2) by each chunk's first sample, in order.

        Empty for recordings that an older version of this platform ingested.
        """
        query = sa.text(
            "SELECT first_sample, removed FROM signal_chunks WHERE window_set_id = :id AND removed IS NOT NULL "
            "ORDER BY first_sample"
        )
        with self.transaction() as connection:
            rows = connection.execute(query, {"id": window_set_id}).all()
        return {row.first_sample: np.frombuffer(row.removed, "<i2").reshape(-1, n_leads, 2) for row in rows}

    def has_signal(self, window_set_ids: Sequence[int]) -> set[int]:
        """Which of these window sets have a signal: those ingested by older versions of this platform have none."""
        query = sa.text(
            "SELECT s.id FROM unnest(CAST(:ids AS bigint[])) AS s(id) "
            "WHERE EXISTS (SELECT 1 FROM signal_chunks c WHERE c.window_set_id = s.id)"
        )
        with self.transaction() as connection:
            return set(connection.execute(query, {"ids": list(window_set_ids)}).scalars())
